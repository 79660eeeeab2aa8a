"""The two value ranges of images, told apart by dtype while a function is traced; statistics and digests of bytes."""

import hashlib
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array

from fmnist_jax.functional.precision import at_least_float32


def is_uint8(images: Array | np.ndarray) -> bool:
    """Tells u8 images in [0, 255] from floating ones, which are in [0, 1] already.

    Raises:
      ValueError: the images are neither.
    """
    if images.dtype == jnp.uint8:
        return True
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images are {images.dtype}: expected uint8 in [0, 255] or floats in [0, 1]; use .astype(jnp.uint8)"
        )
    return False


def check_floats(images: Array | np.ndarray) -> None:
    """Checks that images are floats, which are taken to be in [0, 1].

    Raises:
      ValueError: they are not; `normalize` takes bytes, and so does `make_predict`, which calls it.
    """
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images are {images.dtype}: expected floats in [0, 1]; call normalize on them first, or use make_predict"
        )


def check_inexact(**arrays: Array) -> None:
    """Checks that arrays, given by name, hold floats or complex numbers.

    Raises:
      ValueError: one does not.
    """
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.inexact):
            raise ValueError(f"{name} of {array.dtype}: expected floats or complex numbers, as integers are rounded")


def normalize(images: Array | np.ndarray) -> Array:
    """Scales u8[..., C] in [0, 255] to f32[..., C] in [0, 1]; passes on floating images, already in [0, 1].

    The background stays exactly 0, which is what the convolutions pad with; centring is left to the first batch
    normalisation, which makes the data set's mean and standard deviation irrelevant.

    Raises:
      ValueError: the images are neither bytes nor floats.

    Examples:
      >>> fj.normalize(np.array([[[0], [255]]], np.uint8)).ravel().tolist()
      [0.0, 1.0]
    """
    return jnp.asarray(images, jnp.float32) / 255.0 if is_uint8(images) else jnp.asarray(images)


def on_floats(augment: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Adapts an augmentation of floats in [0, 1] to images as they come, usually bytes.

    Bytes are scaled to [0, 1], and half precision is widened; the result is clipped to that range, and
    rounded where it is to be bytes again.

    Args:
      augment: `(key, f32[..., C] in [0, 1]) -> f32[..., C]`, of one image or of many.

    Returns:
      `(key, images) -> images`, keeping their dtype.

    Raises (what is returned, while it is traced):
      ValueError: the images are neither bytes nor floats.

    Examples:
      >>> brighten = fj.on_floats(lambda key, image: image * 1.5)
      >>> brighten(jax.random.key(0), jnp.array([[[20], [200]]], jnp.uint8)).ravel().tolist()
      [30, 255]
    """

    def adapted(key: Array, images: Array) -> Array:
        highest = 255.0 if is_uint8(images) else 1.0
        levels = highest * augment(key, images.astype(at_least_float32(images.dtype)) / highest)
        clipped = jnp.clip(levels, 0.0, highest)
        return (jnp.round(clipped) if is_uint8(images) else clipped).astype(images.dtype)

    return adapted


_CHUNK_BYTES = 1 << 24  # bytes, each of which counting widens to eight


def pixel_histogram(images: np.ndarray) -> np.ndarray:
    """Counts the pixels of each level, i64[256], of images u8[...], piece by piece."""
    pixels = images.reshape(-1)
    chunks = (pixels[at : at + _CHUNK_BYTES] for at in range(0, len(pixels), _CHUNK_BYTES))
    return sum((np.bincount(piece, minlength=256) for piece in chunks), np.zeros(256, np.int64))


def histogram_mean_std(counts: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, in levels, of one or more pixels with counts i64[256] by `pixel_histogram`."""
    levels = np.arange(256)
    mean = np.average(levels, weights=counts)
    return float(mean), float(np.sqrt(np.average((levels - mean) ** 2, weights=counts)))


def fingerprint(image: np.ndarray) -> bytes:
    """A 128-bit digest of an image: the same for equal ones, all but certainly different for any other of its shape."""
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
