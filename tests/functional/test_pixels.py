import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from fmnist_jax.functional import pixels
from fmnist_jax.functional.pixels import check_floats, fingerprint, is_uint8, normalize, on_floats, pixel_histogram


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_float_images_are_not_uint8_and_pass_check_floats(dtype: type) -> None:
    images = jnp.zeros((1, 2, 2, 1), dtype)
    assert not is_uint8(images)
    check_floats(images)


def test_uint8_images_fail_check_floats() -> None:
    assert is_uint8(jnp.zeros((1, 2, 2, 1), jnp.uint8))
    with pytest.raises(ValueError, match=r"images are uint8: expected floats in \[0, 1\]; call normalize"):
        check_floats(jnp.zeros((1, 2, 2, 1), jnp.uint8))


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.uint16, np.bool_, np.complex64])
def test_other_dtypes_are_rejected_by_name_while_tracing(dtype: type) -> None:
    images = jax.ShapeDtypeStruct((1, 2, 2, 1), dtype)
    name = np.dtype(dtype).name
    with pytest.raises(ValueError, match=rf"images are {name}: expected uint8 in \[0, 255\] or floats in \[0, 1\]"):
        jax.eval_shape(lambda images: jnp.float32(is_uint8(images)), images)
    with pytest.raises(ValueError, match=rf"images are {name}: expected floats"):
        jax.eval_shape(check_floats, images)


@pytest.mark.parametrize("shape", [(0, 4, 4, 1), (7, 5, 3, 3), (2, 4, 4)])
def test_pixel_histogram_in_chunks_equals_a_direct_count(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "_CHUNK_BYTES", 16)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(pixel_histogram(images), [(images == level).sum() for level in range(256)])


def test_fingerprint_depends_on_pixel_values_but_not_on_memory_layout() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    other = image.copy()
    other[3, 3, 2] += 1
    assert fingerprint(image) == fingerprint(np.asfortranarray(image)) != fingerprint(other)


@pytest.mark.parametrize(("factor", "shift"), [(1.0, 0.0), (1.7, -0.2), (-1.0, 1.0)])
def test_on_floats_turns_a_float_augmentation_into_one_of_uint8(factor: float, shift: float) -> None:
    levels = jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16, 1)
    actual = on_floats(lambda _, images: images * factor + shift)(jax.random.key(0), levels)
    expected = np.clip(np.arange(256) * factor + 255 * shift, 0, 255)
    assert actual.dtype == jnp.uint8
    assert np.abs(np.asarray(actual, np.float64).ravel() - expected).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_on_floats_clips_floats_like_bytes_and_computes_in_float32_at_least(dtype: type) -> None:
    images = jnp.linspace(0, 1, 33).astype(dtype).reshape(1, 33, 1, 1)

    def stretch(key: Array, levels: Array) -> Array:
        assert levels.dtype == jnp.float32
        return 2 * levels - 0.5

    actual = on_floats(stretch)(jax.random.key(0), images)
    np.testing.assert_array_equal(actual, jnp.clip(2 * images.astype(jnp.float32) - 0.5, 0, 1).astype(dtype))


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.bfloat16, jnp.float32])
def test_on_floats_keeps_the_dtype(dtype: type) -> None:
    images = jnp.ones((2, 3, 3, 1), dtype)
    darkened = on_floats(lambda key, image: image * jax.random.uniform(key, minval=0.5))(jax.random.key(0), images)
    assert darkened.dtype == dtype


def test_normalize_maps_all_256_levels_to_the_unit_interval_with_exact_endpoints() -> None:
    levels = np.arange(256, dtype=np.uint8)
    scaled = np.asarray(jax.jit(normalize)(levels))
    assert scaled.dtype == np.float32
    assert (scaled[0], scaled[255]) == (0.0, 1.0)
    np.testing.assert_allclose(scaled, levels.astype(np.float64) / 255, rtol=1e-6)


def test_normalize_returns_float_images_unchanged() -> None:
    images = jnp.linspace(0, 1, 8).reshape(1, 2, 4, 1)
    assert normalize(images) is images
    assert normalize(images.astype(jnp.float16)).dtype == jnp.float16
