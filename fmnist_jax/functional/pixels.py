"""The two ranges of images, told apart by their dtype while a function is traced, and what is said of bytes alone."""

import hashlib

import jax.numpy as jnp
import numpy as np
from jax import Array


def are_bytes(images: Array | np.ndarray) -> bool:
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
    """Checks that images are floating, in [0, 1].

    Raises:
      ValueError: they are not; what takes bytes is `normalize`, and `make_predict`, which calls it.
    """
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images are {images.dtype}: expected floats in [0, 1]; normalize them, or use make_predict")


_AT_ONCE = 1 << 24  # bytes, which counting spreads into eight times as many


def level_counts(images: np.ndarray) -> np.ndarray:
    """Counts the pixels of each level, i64[256], of images u8[...], piece by piece."""
    pixels = images.reshape(-1)
    pieces = (pixels[at : at + _AT_ONCE] for at in range(0, len(pixels), _AT_ONCE))
    return sum((np.bincount(piece, minlength=256) for piece in pieces), np.zeros(256, np.int64))


def fingerprint(image: np.ndarray) -> bytes:
    """128 bits of a digest of an image: of two that are equal the same, of two others all but certainly not."""
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
