from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from fmnist_jax import (
    Augment,
    AugmentConfig,
    ConfigError,
    make_augment,
    make_cutout,
    make_random_crop,
    make_random_erasing,
    make_random_rotation,
    mirror_alternately,
    normalize,
    random_flip,
    rotate,
)
from fmnist_jax.functional.augment import box_masks, chain, identity

# Number of images in the statistical tests: one for all, so that each operation is compiled once.
COUNT = 3000


def distinct_pixels(count: int, height: int = 5, width: int = 6, channels: int = 2) -> np.ndarray:
    """Copies of one image whose pixels are all distinct and non-zero."""
    image = np.arange(1, 1 + height * width * channels, dtype=np.uint8).reshape(height, width, channels)
    return np.tile(image, (count, 1, 1, 1))


def all_shifts(image: np.ndarray, max_shift: int) -> np.ndarray:
    """Every shift of an image by up to `max_shift` pixels, filled with 0: [(2 max_shift + 1)**2, H, W, C]."""
    height, width, _ = image.shape
    versions = []
    for down in range(-max_shift, max_shift + 1):
        for right in range(-max_shift, max_shift + 1):
            shifted = np.zeros_like(image)
            for i in range(height):
                for j in range(width):
                    if 0 <= i - down < height and 0 <= j - right < width:
                        shifted[i, j] = image[i - down, j - right]
            versions.append(shifted)
    return np.stack(versions)


def match_indices(outputs: Array, versions: np.ndarray) -> np.ndarray:
    """The index of the version that each output equals; fails unless exactly one matches."""
    matches = (np.asarray(outputs)[:, None] == versions[None]).all((2, 3, 4))
    assert np.all(matches.sum(1) == 1)
    return matches.argmax(1)


def assert_uniform(chosen: np.ndarray, cells: int) -> None:
    counts = np.bincount(chosen, minlength=cells)
    expected = len(chosen) / cells
    z = (((counts - expected) ** 2).sum() / expected - (cells - 1)) / np.sqrt(2 * (cells - 1))
    assert abs(z) < 4, counts


def test_random_flip_mirrors_each_image_independently_with_probability_half(key: Array) -> None:
    images = distinct_pixels(COUNT)
    flipped = random_flip(key, jnp.asarray(images))
    assert flipped.dtype == jnp.uint8
    mirrored = match_indices(flipped, np.stack([images[0], images[0][:, ::-1]]))
    assert_uniform(mirrored, 2)
    assert_uniform(2 * mirrored[:-1] + mirrored[1:], 4)


@pytest.mark.parametrize("padding", [1, 2])
def test_random_crop_shifts_each_image_uniformly_and_fills_with_zeros(key: Array, padding: int) -> None:
    images = distinct_pixels(COUNT)
    cropped = make_random_crop(padding)(key, jnp.asarray(images))
    assert cropped.shape == images.shape
    assert cropped.dtype == jnp.uint8
    versions = all_shifts(images[0], padding)
    assert_uniform(match_indices(cropped, versions), len(versions))


def test_random_crop_with_the_largest_valid_padding_reaches_its_extreme_shifts(key: Array) -> None:
    images = jnp.ones((COUNT, 28, 28, 1), jnp.uint8)
    remaining = np.asarray(jax.jit(make_random_crop(14))(key, images)).astype(np.int64).sum((1, 2, 3))
    assert np.min(remaining) == 14 * 14
    assert np.max(remaining) > 27 * 27


@pytest.mark.parametrize(("flip", "padding"), [(False, 0), (True, 0), (False, 1), (True, 1)])
def test_make_augment_combines_flip_and_crop_independently(key: Array, flip: bool, padding: int) -> None:
    images = distinct_pixels(COUNT)
    orientations = [images[0], images[0][:, ::-1]] if flip else [images[0]]
    versions = np.concatenate([all_shifts(orientation, padding) for orientation in orientations])
    config = AugmentConfig(flip="random" if flip else "none", crop_padding=padding, erase_probability=0.0)
    chosen = match_indices(make_augment(config)(key, jnp.asarray(images)), versions)
    assert len(np.unique(chosen)) == len(versions)
    if len(versions) > 1:
        assert_uniform(chosen, len(versions))


NO_AUGMENTATION = AugmentConfig(flip="none", crop_padding=0, erase_probability=0.0)


@pytest.mark.parametrize(
    "options",
    [
        {"rotation": 20.0},
        {"erase_probability": 1.0},
        {"cutout": 5},
        {"photo_probability": 1.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_make_augment_applies_each_configured_augmentation(key: Array, options: dict[str, Any]) -> None:
    images = jax.random.randint(key, (8, 28, 28, 1), 1, 256).astype(jnp.uint8)
    np.testing.assert_array_equal(make_augment(NO_AUGMENTATION)(key, images), images)
    augmented = np.asarray(jax.jit(make_augment(replace(NO_AUGMENTATION, **options)))(key, images))
    assert (augmented != np.asarray(images)).any((1, 2, 3)).all()


def test_make_augment_rejects_an_unknown_flip() -> None:
    unknown: Any = AugmentConfig(flip="alternate")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"--augment\.flip is 'alternate': choose one of none, random, alternating$"):
        make_augment(unknown)


ALL_AUGMENTATIONS = AugmentConfig(
    flip="random", crop_padding=2, rotation=10.0, photo_probability=0.3, erase_probability=0.5, cutout=3
)
AUGMENTS: list[Augment] = [
    random_flip,
    make_random_crop(2),
    make_random_rotation(20.0),
    make_random_erasing(0.5),
    make_cutout(3),
    make_augment(ALL_AUGMENTATIONS),
]


@pytest.mark.parametrize("augment", AUGMENTS)
def test_augmentations_are_deterministic_given_their_key_eager_and_jitted(augment: Augment, key: Array) -> None:
    images = jnp.asarray(distinct_pixels(64))
    first = np.asarray(augment(key, images))
    np.testing.assert_array_equal(augment(key, images), first)
    np.testing.assert_array_equal(jax.jit(augment)(key, images), first)
    assert np.any(augment(jax.random.key(1), images) != first)


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("spec", [P("data"), P()])
def test_augmentations_on_explicit_axes_equal_those_on_one_device(augment: Augment, spec: P, key: Array) -> None:
    images = distinct_pixels(8, 8, 8)
    expected = jax.jit(augment)(key, images)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:2])
    with jax.set_mesh(mesh):
        augmented = jax.jit(augment)(key, jax.device_put(images, NamedSharding(mesh, spec)))
        np.testing.assert_array_equal(jax.jit(augment)(key, images), expected)
    assert augmented.sharding.is_fully_replicated == (spec == P())
    np.testing.assert_array_equal(augmented, expected)


def test_augmentations_under_vmap_equal_one_call_per_key(key: Array) -> None:
    augment, images = make_augment(ALL_AUGMENTATIONS), jnp.asarray(distinct_pixels(64))
    keys = jax.random.split(key, 3)
    mapped = jax.jit(jax.vmap(augment, in_axes=(0, None)))(keys, images)
    for i in range(3):
        np.testing.assert_array_equal(mapped[i], augment(keys[i], images))


def test_array_zeros_leave_the_draws_of_other_augmentations_unchanged(key: Array) -> None:
    images = jnp.asarray(distinct_pixels(64))
    expected = make_augment(AugmentConfig(flip="none", erase_probability=0.5))(key, images)
    zeros: dict[str, Any] = {"crop_padding": jnp.int32(0), "rotation": jnp.float32(0)}  # as if they were traced
    with_zeros = make_augment(AugmentConfig(flip="none", erase_probability=0.5, **zeros))
    np.testing.assert_array_equal(jax.jit(with_zeros)(key, images), expected)
    assert np.any(np.asarray(expected) != images)


def test_chain_applies_augmentations_in_order_with_distinct_keys(key: Array) -> None:
    seen_keys: list[bytes] = []

    def spy(function: Callable[[Array], Array]) -> Augment:
        def augment(key: Array, images: Array) -> Array:
            seen_keys.append(np.asarray(jax.random.key_data(key)).tobytes())
            return function(images)

        return augment

    chained = chain(spy(lambda x: x + 1), spy(lambda x: x * 2), spy(lambda x: x - 3))
    assert chained(key, jnp.array([5])).item() == (5 + 1) * 2 - 3
    assert len({*seen_keys, np.asarray(jax.random.key_data(key)).tobytes()}) == 4


def test_empty_chain_and_identity_leave_images_unchanged(key: Array) -> None:
    images = distinct_pixels(2)
    np.testing.assert_array_equal(chain()(key, jnp.asarray(images)), images)
    np.testing.assert_array_equal(identity(key, jnp.asarray(images)), images)


@pytest.mark.parametrize("augment", AUGMENTS)
def test_augmentations_keep_shape_and_dtype_under_strict_dtype_promotion(augment: Augment, key: Array) -> None:
    images = jnp.asarray(distinct_pixels(8))
    with jax.numpy_dtype_promotion("strict"):
        augmented = jax.eval_shape(augment, key, images)
    assert (augmented.shape, augmented.dtype) == (images.shape, jnp.uint8)


def mirror_mask(key: Array, indices: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Which images `mirror_alternately` mirrors: bool[B]."""
    images = distinct_pixels(len(indices))
    outputs = mirror_alternately(key, jnp.asarray(images), jnp.asarray(indices), jnp.asarray(epochs))
    return match_indices(outputs, np.stack([images[0], images[0][:, ::-1]])) == 1


def test_alternating_mirror_flips_each_image_in_every_other_epoch(key: Array) -> None:
    indices = np.random.default_rng(0).permutation(600)
    epochs = [mirror_mask(key, indices, np.full(600, epoch)) for epoch in range(4)]
    np.testing.assert_array_equal(epochs[1], ~epochs[0])
    np.testing.assert_array_equal(epochs[2], epochs[0])
    np.testing.assert_array_equal(epochs[3], epochs[1])


def test_alternating_mirror_starts_at_random_for_each_image_and_key(key: Array) -> None:
    indices, epochs = np.arange(COUNT), np.zeros(COUNT, np.int64)
    first, second = (mirror_mask(k, indices, epochs) for k in (key, jax.random.key(1)))
    assert_uniform(2 * first[:-1] + first[1:], 4)
    assert_uniform(2 * first + second, 4)


def test_alternating_mirror_depends_on_index_and_epoch_but_not_on_batch_position(key: Array) -> None:
    shuffled = np.random.default_rng(0).permutation(300)
    in_order = mirror_mask(key, np.arange(300), np.full(300, 3))
    np.testing.assert_array_equal(mirror_mask(key, shuffled, np.full(300, 3)), in_order[shuffled])
    mixed_epochs = np.arange(300) % 2
    np.testing.assert_array_equal(mirror_mask(key, np.arange(300), mixed_epochs), in_order ^ (mixed_epochs == 0))


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 12), st.integers(0, 12))
def test_box_masks_equal_slices_clipped_at_the_border(top: int, left: int, height: int, width: int) -> None:
    actual = box_masks(jnp.array([[top, left]]), jnp.array([[height, width]]), 5, 7)
    expected = np.zeros((1, 5, 7, 1), bool)
    expected[:, max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = True
    np.testing.assert_array_equal(actual, expected)


def box_sides(changed: np.ndarray) -> np.ndarray:
    """Height and width of the box of changed pixels in each image: i64[B, 2]."""
    return np.stack([changed.any(axis).sum(-1) for axis in (2, 1)], -1)


def test_random_erasing_follows_its_probability_and_area_and_aspect_distributions(key: Array) -> None:
    images = np.full((4000, 28, 28, 1), 77, np.uint8)
    erased = np.asarray(jax.jit(make_random_erasing(0.3))(key, images))[..., 0]
    is_erased = (erased != 77).any((1, 2))
    assert is_erased.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 4000))

    # One noise pixel in 256 equals the background, so boxes are measured by their rows and columns.
    sides = box_sides(erased[is_erased] != 77)
    areas, aspects = sides.prod(-1) / 784, sides[:, 0] / sides[:, 1]
    assert np.min(areas) > 0.012
    assert np.max(areas) < 0.42
    assert areas.mean() == pytest.approx(0.21, abs=0.012)
    assert np.quantile(areas, [0.25, 0.75]) == pytest.approx([0.115, 0.305], abs=0.02)
    small = areas < 0.25
    assert np.quantile(aspects[small], [0.01, 0.99]) == pytest.approx([0.3, 1 / 0.3], rel=0.15)
    assert np.median(aspects) == pytest.approx(1, abs=0.08)
    noise = erased[is_erased][erased[is_erased] != 77]
    assert noise.mean() == pytest.approx(127.8, abs=1)
    assert {noise.min(), noise.max()} == {0, 255}


def test_random_erasing_measures_sides_as_shares_of_oblong_images(key: Array) -> None:
    images = np.full((64, 14, 28, 1), 77, np.uint8)
    erased = np.asarray(make_random_erasing(1.0, area=(0.25, 0.25), aspect=1.0)(key, jnp.asarray(images)))
    np.testing.assert_array_equal(box_sides((erased != 77)[..., 0]), np.tile([7, 14], (64, 1)))


def test_random_erasing_reaches_every_corner_and_changes_only_one_box(key: Array) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1500, 28, 28, 1), np.uint8)
    erased = np.asarray(jax.jit(make_random_erasing(1.0, area=(0.1, 0.1), aspect=0.5))(key, images))
    changed = (erased != images)[..., 0]
    for row, column in ((0, 0), (0, 27), (27, 0), (27, 27)):
        assert changed[:, row, column].any()
    # All of the box but the few pixels whose noise equals what was there.
    assert np.all(changed.sum((1, 2)) > 0.9 * box_sides(changed).prod(-1))


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_random_erasing_with_probability_zero_or_one_erases_none_or_all(key: Array, probability: float) -> None:
    images = distinct_pixels(64)
    erased = np.asarray(make_random_erasing(probability)(key, jnp.asarray(images)))
    assert np.all((erased != images).any((1, 2, 3)) == bool(probability))


@pytest.mark.parametrize("size", [1, 4, 5, 28])
def test_cutout_zeroes_a_square_around_a_uniformly_drawn_pixel(key: Array, size: int) -> None:
    height, width = 5, 6
    images = distinct_pixels(COUNT, height, width)
    outputs = np.asarray(make_cutout(size)(key, jnp.asarray(images)))
    versions = []
    for centre_row in range(height):
        for centre_column in range(width):
            version = images[0].copy()
            top, left = centre_row - size // 2, centre_column - size // 2
            version[max(top, 0) : top + size, max(left, 0) : left + size] = 0
            versions.append(version)
    distinct, inverse = np.unique(np.stack(versions), axis=0, return_inverse=True)
    counts = np.bincount(match_indices(jnp.asarray(outputs), distinct), minlength=len(distinct))
    expected = np.bincount(inverse, minlength=len(distinct)) * COUNT / len(versions)
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


def test_rotate_by_multiples_of_90_degrees_equals_numpy_rot90() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 2), np.uint8)
    for turns in range(-3, 5):
        rotated = rotate(jnp.asarray(images), jnp.full(4, 90.0 * turns))
        np.testing.assert_array_equal(rotated, np.rot90(images, turns, (1, 2)))


def numpy_rotation(image: np.ndarray, degrees: float) -> np.ndarray:
    """Bilinear rotation by its definition, pixel by pixel."""
    size, angle = image.shape[0], np.deg2rad(degrees)
    centre, out = (size - 1) / 2, np.zeros(image.shape)
    for i in range(size):
        for j in range(size):
            y, x = i - centre, j - centre
            row, column = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
            top, left = int(np.floor(row + centre)), int(np.floor(column + centre))
            for a in (top, top + 1):
                for b in (left, left + 1):
                    if 0 <= a < size and 0 <= b < size:
                        out[i, j] += image[a, b] * (1 - abs(row + centre - a)) * (1 - abs(column + centre - b))
    return out


def test_rotate_equals_a_numpy_bilinear_rotation() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 9, 9, 1), np.uint8)
    angles = [-30.0, 7.5, 61.0]
    rotated = np.asarray(rotate(jnp.asarray(images), jnp.asarray(angles)))
    for actual, image, angle in zip(rotated, images, angles, strict=True):
        np.testing.assert_allclose(actual[..., 0], numpy_rotation(image[..., 0], angle), atol=0.51)


def test_random_rotation_draws_uniform_angles_in_both_directions(key: Array) -> None:
    images = np.zeros((2000, 29, 29, 1), np.uint8)
    images[:, 14, 24] = 255
    rotated = np.asarray(jax.jit(make_random_rotation(30.0))(key, images))[..., 0].astype(np.float64)
    y, x = np.mgrid[:29, :29] - 14
    weight = rotated.sum((1, 2))
    angles = np.rad2deg(np.arctan2(-(rotated * y).sum((1, 2)) / weight, (rotated * x).sum((1, 2)) / weight))
    assert np.abs(angles).max() < 31
    assert np.quantile(angles, [0.1, 0.5, 0.9]) == pytest.approx([-24, 0, 24], abs=2.5)


def test_random_crop_with_traced_padding_equals_static_padding(key: Array) -> None:
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (20, 9, 7, 2), np.uint8))
    actual = jax.jit(jax.vmap(lambda padding: make_random_crop(padding)(key, images)))(jnp.array([0, 3, 9]))
    for i, padding in enumerate([0, 3, 9]):
        np.testing.assert_array_equal(actual[i], jax.jit(make_random_crop(padding))(key, images))


@pytest.mark.parametrize("make", [make_random_rotation, make_random_erasing], ids=["rotation", "erasing"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rotation_and_erasing_of_floats_equal_those_of_uint8(
    make: Callable[[float], Augment], dtype: Any, key: Array
) -> None:
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (30, 28, 28, 1), np.uint8))
    augment = jax.jit(make(1.0))
    expected = np.asarray(augment(key, images)).astype(np.float64) / 255
    actual = augment(key, normalize(images).astype(dtype))
    assert actual.dtype == dtype
    # uint8 rounds to within half of 1/255, bfloat16 to 8 bits.
    np.testing.assert_allclose(actual.astype(jnp.float32), expected, atol=0.51 / 255 + (dtype != jnp.float32) / 128)
    assert float(actual.max()) <= 1


def test_rotate_does_not_round_floats() -> None:
    images = jnp.zeros((1, 9, 9, 1)).at[0, 4, 4].set(1.0)
    rotated = np.asarray(rotate(images, jnp.array([10.0])))
    assert np.any((rotated > 0.01) & (rotated < 0.99))


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.bool_])
def test_images_of_other_dtypes_are_rejected(dtype: type, key: Array) -> None:
    images = jnp.zeros((2, 9, 9, 1), dtype)
    for function in (normalize, partial(make_random_rotation(10.0), key), partial(make_random_erasing(1.0), key)):
        with pytest.raises(ValueError, match=f"images are {np.dtype(dtype).name}: expected uint8"):
            jax.eval_shape(function, images)


def test_mirroring_takes_images_without_an_axis_of_channels(key: Array) -> None:
    images = jnp.arange(4 * 6 * 8, dtype=jnp.uint8).reshape(4, 6, 8)
    epochs = jnp.zeros(4, jnp.int32)
    for mirrored, expected in (
        (random_flip(key, images), random_flip(key, images[..., None])),
        (
            mirror_alternately(key, images, jnp.arange(4), epochs),
            mirror_alternately(key, images[..., None], jnp.arange(4), epochs),
        ),
    ):
        np.testing.assert_array_equal(mirrored, expected[..., 0])
