"""Sampling images between their pixels: what rotating, scaling and shifting have in common."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.ndimage import map_coordinates


def centred_grid(height: int, width: int) -> tuple[Array, Array]:
    """Rows and columns of the pixels of an image, counted from its centre: f32[height, width] each."""
    rows, columns = jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32)
    y, x = jnp.meshgrid(rows - (height - 1) / 2, columns - (width - 1) / 2, indexing="ij")
    return y, x


def sample_image(image: Array, y: Array, x: Array) -> Array:
    """Samples an image by bilinear interpolation; outside it is 0.

    Args:
      image: floats [H, W, C].
      y: f32[H', W'], rows from the image's centre.
      x: f32[H', W'], columns from the image's centre.

    Returns:
      [H', W', C] in the dtype of `image`.
    """
    height, width = image.shape[:2]
    source = [place.astype(image.dtype) for place in (y + (height - 1) / 2, x + (width - 1) / 2)]
    return jax.vmap(lambda channel: map_coordinates(channel, source, order=1), -1, -1)(image)
