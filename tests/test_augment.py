from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from fmnist_jax import Augment, make_augment, make_random_crop, normalize, random_flip
from fmnist_jax.augment import chain, identity


def distinct_pixels(count: int, height: int = 5, width: int = 6, channels: int = 2) -> np.ndarray:
    """Copies of one image whose pixels are all different and none of them 0."""
    image = np.arange(1, 1 + height * width * channels, dtype=np.uint8).reshape(height, width, channels)
    return np.tile(image, (count, 1, 1, 1))


def shifts(image: np.ndarray, most: int) -> np.ndarray:
    """Every version of an image moved by up to `most` pixels each way, 0 moving in: [(2 most + 1)**2, H, W, C]."""
    height, width, _ = image.shape
    versions = []
    for down in range(-most, most + 1):
        for right in range(-most, most + 1):
            moved = np.zeros_like(image)
            for i in range(height):
                for j in range(width):
                    if 0 <= i - down < height and 0 <= j - right < width:
                        moved[i, j] = image[i - down, j - right]
            versions.append(moved)
    return np.stack(versions)


def which(outputs: Array, versions: np.ndarray) -> np.ndarray:
    """The one version that each output equals; fails unless there is exactly one."""
    matches = (np.asarray(outputs)[:, None] == versions[None]).all((2, 3, 4))
    assert np.all(matches.sum(1) == 1)
    return matches.argmax(1)


def assert_uniform(chosen: np.ndarray, cells: int) -> None:
    counts = np.bincount(chosen, minlength=cells)
    expected = len(chosen) / cells
    z = (((counts - expected) ** 2).sum() / expected - (cells - 1)) / np.sqrt(2 * (cells - 1))
    assert abs(z) < 4, counts


def test_random_flip_mirrors_each_image_for_itself_half_of_the_time(key: Array) -> None:
    images = distinct_pixels(2000)
    flipped = random_flip(key, jnp.asarray(images))
    assert flipped.dtype == jnp.uint8
    mirrored = which(flipped, np.stack([images[0], images[0][:, ::-1]]))
    assert_uniform(mirrored, 2)
    assert_uniform(2 * mirrored[:-1] + mirrored[1:], 4)


@pytest.mark.parametrize("padding", [1, 2])
def test_random_crop_shifts_each_image_uniformly_and_fills_with_zero(key: Array, padding: int) -> None:
    images = distinct_pixels(2500)
    cropped = make_random_crop(padding)(key, jnp.asarray(images))
    assert (cropped.shape, cropped.dtype) == (images.shape, jnp.uint8)
    versions = shifts(images[0], padding)
    assert_uniform(which(cropped, versions), len(versions))


def test_random_crop_reaches_the_widest_shift_that_the_configuration_allows(key: Array) -> None:
    images = jnp.ones((3000, 28, 28, 1), jnp.uint8)
    left = np.asarray(make_random_crop(14)(key, images)).astype(np.int64).sum((1, 2, 3))
    assert left.min() == 14 * 14
    assert left.max() > 27 * 27


@pytest.mark.parametrize(("flip", "padding"), [(False, 0), (True, 0), (False, 1), (True, 1)])
def test_make_augment_composes_what_is_named_independently(key: Array, flip: bool, padding: int) -> None:
    images = distinct_pixels(1800)
    faces = [images[0], images[0][:, ::-1]] if flip else [images[0]]
    versions = np.concatenate([shifts(face, padding) for face in faces])
    chosen = which(make_augment(flip=flip, crop_padding=padding)(key, jnp.asarray(images)), versions)
    assert len(np.unique(chosen)) == len(versions)
    if len(versions) > 1:
        assert_uniform(chosen, len(versions))


AUGMENTS: list[Augment] = [random_flip, make_random_crop(2), make_augment(flip=True, crop_padding=2)]


@pytest.mark.parametrize("augment", AUGMENTS)
def test_augmentations_are_functions_of_their_key_compiled_or_not(augment: Augment, key: Array) -> None:
    images = jnp.asarray(distinct_pixels(64))
    first = np.asarray(augment(key, images))
    np.testing.assert_array_equal(augment(key, images), first)
    np.testing.assert_array_equal(jax.jit(augment)(key, images), first)
    assert np.any(augment(jax.random.key(1), images) != first)


def test_augmentations_under_vmap_equal_one_call_per_key(key: Array) -> None:
    augment, images = make_augment(flip=True, crop_padding=2), jnp.asarray(distinct_pixels(64))
    keys = jax.random.split(key, 3)
    many = jax.vmap(augment, in_axes=(0, None))(keys, images)
    for i in range(3):
        np.testing.assert_array_equal(many[i], augment(keys[i], images))


def test_chain_applies_in_order_with_a_key_for_each(key: Array) -> None:
    seen: list[bytes] = []

    def spy(change: Callable[[Array], Array]) -> Augment:
        def augment(key: Array, images: Array) -> Array:
            seen.append(np.asarray(jax.random.key_data(key)).tobytes())
            return change(images)

        return augment

    chained = chain(spy(lambda x: x + 1), spy(lambda x: x * 2), spy(lambda x: x - 3))
    assert chained(key, jnp.array([5])).item() == (5 + 1) * 2 - 3
    assert len({*seen, np.asarray(jax.random.key_data(key)).tobytes()}) == 4


def test_chain_of_nothing_and_identity_change_nothing(key: Array) -> None:
    images = distinct_pixels(2)
    np.testing.assert_array_equal(chain()(key, jnp.asarray(images)), images)
    np.testing.assert_array_equal(identity(key, jnp.asarray(images)), images)


def test_normalize_maps_the_256_levels_to_the_unit_interval_with_exact_ends() -> None:
    levels = np.arange(256, dtype=np.uint8)
    scaled = np.asarray(jax.jit(normalize)(levels))
    assert scaled.dtype == np.float32
    assert (scaled[0], scaled[255]) == (0.0, 1.0)
    np.testing.assert_allclose(scaled, levels.astype(np.float64) / 255, rtol=1e-6)
