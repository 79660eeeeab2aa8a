from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from jax import Array
from scipy import ndimage

from fmnist_jax import Variation, draw_variation, make_photo_like, normalize, vary
from fmnist_jax.data import synthetic

GARMENTS, _ = synthetic.draw(40, 0)
IDENTITY: dict[str, Any] = {
    **{"mirrored": False, "scale": (1.0, 1.0), "degrees": 0.0, "shift": (0.0, 0.0), "light": (0.0, 0.0)},
    **{"gamma": 1.0, "contrast": 1.0, "softness": 0.0, "hole": (0.0, 0.0, 0.0)},
}


def single_variation(**changes: Any) -> Variation:
    """A variation of one image."""
    values = IDENTITY | changes
    return Variation(**{name: jnp.asarray(values[name])[None] for name in Variation._fields})


compiled_vary = jax.jit(vary)


def apply_variation(image: np.ndarray, **changes: Any) -> np.ndarray:
    return np.asarray(compiled_vary(jnp.asarray(image)[None], single_variation(**changes)))[0]


def numpy_variation(image: np.ndarray, change: dict[str, Any]) -> np.ndarray:
    """The same variation of f[H, W, 1] in [0, 1], step by step in float64."""
    height, width, _ = image.shape
    plane = image[..., 0].astype(np.float64)
    if change["mirrored"]:
        plane = plane[:, ::-1]
    angle = np.deg2rad(change["degrees"])
    inverse = np.diag(1 / np.array(change["scale"])) @ [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    centre = np.array([height - 1, width - 1]) / 2
    offset = centre - inverse @ (centre + change["shift"])
    plane = ndimage.affine_transform(plane, inverse, offset, order=1, mode="grid-constant")
    y, x = np.meshgrid(*((2 * np.arange(edge) - edge + 1) / edge for edge in (height, width)), indexing="ij")
    lit = np.clip(plane * (1 + change["light"][0] * y + change["light"][1] * x), 0, 1)
    shaded = change["contrast"] * lit ** change["gamma"]
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    blurred = ndimage.convolve((lit > 0).astype(np.float64), kernel, mode="constant")
    soft = shaded * (1 - change["softness"] * (1 - blurred))
    row, column, radius = change["hole"]
    return np.where((y - row) ** 2 + (x - column) ** 2 < radius**2, 0, soft)[..., None]


def test_identity_variation_leaves_the_image_unchanged() -> None:
    np.testing.assert_array_equal(apply_variation(GARMENTS[0]), GARMENTS[0])
    np.testing.assert_array_equal(apply_variation(np.asarray(normalize(GARMENTS[0]))), normalize(GARMENTS[0]))


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32)


PAIRS = {name: st.tuples(floats(*bounds), floats(*bounds)) for name, bounds in
         {"scale": (0.5, 2.0), "shift": (-9.0, 9.0), "light": (-1.0, 1.0)}.items()}  # fmt: skip
CHANGES = st.fixed_dictionaries(
    {
        **PAIRS,
        "mirrored": st.booleans(),
        "degrees": floats(-180.0, 180.0),
        "gamma": floats(0.5, 2.0),
        "contrast": floats(0.0, 1.0),
        "softness": floats(0.0, 1.0),
        "hole": st.tuples(floats(-1.0, 1.0), floats(-1.0, 1.0), floats(0.0, 1.0)),
    }
)


@given(CHANGES, st.integers(0, len(GARMENTS) - 1))
def test_vary_equals_numpy_for_any_variation(change: dict[str, Any], index: int) -> None:
    image = np.asarray(normalize(GARMENTS[index]))
    actual, expected = apply_variation(image, **change), numpy_variation(image, change)
    # The two may differ where rounding decides whether a pixel is in the object or in the hole.
    assert np.mean(np.abs(actual - expected) > 2e-3) < 0.02


@pytest.mark.parametrize(
    "change",
    [
        {"mirrored": True},
        {"degrees": 30.0},
        {"scale": (0.8, 1.2)},
        {"shift": (2.0, -3.5)},
        {"light": (0.4, -0.3)},
        {"gamma": 0.6},
        {"contrast": 0.7},
        {"softness": 1.0},
        {"hole": (0.1, -0.2, 0.35)},
    ],
)
def test_each_part_of_a_variation_alone_equals_numpy(change: dict[str, Any]) -> None:
    image = np.asarray(normalize(GARMENTS[5]))
    actual = apply_variation(image, **change)
    assert np.abs(actual - image).max() > 0.05
    np.testing.assert_allclose(actual, numpy_variation(image, IDENTITY | change), atol=1e-4)


@pytest.mark.parametrize("shape", [(9, 14, 1), (14, 9, 1)])
def test_lighting_and_holes_of_oblong_images_equal_numpy(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).uniform(0.1, 0.7, shape).astype(np.float32)
    change = {"light": (0.4, -0.3), "hole": (0.1, -0.4, 0.35)}
    np.testing.assert_allclose(apply_variation(image, **change), numpy_variation(image, IDENTITY | change), atol=1e-4)


def test_softness_does_not_affect_colour_edges_inside_the_object() -> None:
    """Red next to yellow: the green channel ends in the middle, but the object does not."""
    image = np.zeros((8, 10, 3), np.float32)
    image[..., 0], image[:, 5:, 1] = 1.0, 1.0
    actual = apply_variation(image, softness=1.0)
    np.testing.assert_array_equal(actual[1:-1, 1:-1], image[1:-1, 1:-1])
    assert np.all(actual[:, -1, :2] < 1)


def test_vary_of_uint8_equals_that_of_floats_and_int32_is_rejected(key: Array) -> None:
    images = jnp.asarray(GARMENTS)
    change = draw_variation(key, len(images))
    actual = compiled_vary(images, change)
    assert actual.dtype == jnp.uint8
    np.testing.assert_allclose(actual, 255 * np.asarray(compiled_vary(normalize(images), change)), atol=0.51)
    with pytest.raises(ValueError, match="expected uint8"):
        compiled_vary(images.astype(jnp.int32), change)


def test_drawn_variations_cover_their_ranges_and_are_uncorrelated(key: Array) -> None:
    drawn = jax.tree.map(np.asarray, jax.jit(draw_variation, static_argnums=1)(key, 4000))
    for values, low, high in (
        *((drawn.degrees, -15, 15), (drawn.scale, 0.8, 1.05), (drawn.shift, -2, 2), (drawn.light, -0.4, 0.4)),
        *((np.log(drawn.gamma), -0.5, 0.5), (drawn.contrast, 0.6, 1), (drawn.softness, 0, 1)),
        *((drawn.hole[:, :2], -1, 1), (drawn.hole[:, 2], 0, 0.35)),
    ):
        margin = 0.02 * (high - low)
        assert low - 1e-6 <= values.min() < low + margin
        assert high - margin < values.max() <= high + 1e-6
        assert values.mean() == pytest.approx((low + high) / 2, abs=margin)
    assert drawn.mirrored.mean() == pytest.approx(0.5, abs=0.04)
    columns = np.column_stack([leaf.reshape(4000, -1) for leaf in drawn])
    assert np.abs(np.corrcoef(columns.T) - np.eye(columns.shape[1])).max() < 0.08


@jax.jit
def compiled_photo_like(probability: float, key: Array, images: Array) -> Array:
    return make_photo_like(probability)(key, images)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_photo_like_varies_the_requested_fraction_of_images(key: Array, probability: float) -> None:
    images = np.tile(GARMENTS[:1], (600, 1, 1, 1))
    actual = np.asarray(compiled_photo_like(probability, key, jnp.asarray(images)))
    changed = (actual != images).any((1, 2, 3))
    assert changed.mean() == pytest.approx(probability, abs=4 * np.sqrt(probability * (1 - probability) / 600))
    assert not actual[:, 0, 0].any()


def test_photo_like_is_deterministic_given_its_key_eager_jitted_and_vmapped(key: Array) -> None:
    images, augment = jnp.asarray(normalize(GARMENTS)), make_photo_like(0.5)
    keys = jax.random.split(key, 3)
    mapped = jax.jit(jax.vmap(augment, in_axes=(0, None)))(keys, images)
    for i in range(3):
        np.testing.assert_allclose(mapped[i], augment(keys[i], images), atol=1e-5)
    assert np.any(np.abs(mapped[0] - mapped[1]) > 0.1)
    traced = jax.jit(lambda probability: make_photo_like(probability)(keys[0], images))(0.5)
    np.testing.assert_allclose(traced, mapped[0], atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.bfloat16, jnp.float32])
def test_photo_like_keeps_shape_and_dtype_under_strict_dtype_promotion(key: Array, dtype: Any) -> None:
    images = jax.ShapeDtypeStruct((4, 9, 7, 3), dtype)
    with jax.numpy_dtype_promotion("strict"):
        actual = jax.eval_shape(make_photo_like(0.5), key, images)
    assert (actual.shape, actual.dtype) == (images.shape, dtype)


def test_vary_gradients_are_finite_where_the_image_is_black(key: Array) -> None:
    change = draw_variation(key, 4)
    gradient = jax.jit(jax.grad(lambda images: vary(images, change).sum()))(jnp.asarray(normalize(GARMENTS[:4])))
    assert np.isfinite(gradient).all()
