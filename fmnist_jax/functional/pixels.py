"""The two ranges of images, told apart by their dtype while a function is traced: bytes, and floats in [0, 1]."""

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
