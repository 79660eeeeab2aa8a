"""Training images varied the way photos of garments differ from them: in view, in lighting and in a bad cut-out.

`draw_variation` draws a variation and `vary` applies it; `make_photo_like` does both, as an augmentation for the
training step. The ranges reflect what cutting garments out of photos does to them; they were not tuned by measuring.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fmnist_jax.functional.pixels import is_uint8
from fmnist_jax.functional.precision import at_least_float32
from fmnist_jax.functional.sharding import for_rows
from fmnist_jax.functional.warping import centred_grid, sample_image

_DEGREES = 15.0  # a garment on a bed lies a little askew
_SCALE = (0.8, 1.05)  # too large a mask makes the garment smaller; drawn for each axis, so aspect ratios vary, too
_SHIFT = 2.0  # pixels
_LIGHT = 0.4  # of the brightness in the middle: what a window on one side adds there and takes from the other side
_GAMMA = 0.5  # natural logarithm of the exponent, either way
_CONTRAST = (0.6, 1.0)  # of the garment's own brightness
_HOLE = 0.35  # of half an edge: the largest radius of a disc in the colour of the background


class Variation(NamedTuple):
    """How each of B images is varied; in parentheses the value that changes nothing."""

    mirrored: Array
    """bool[B]: whether mirrored left to right (False)."""
    scale: Array
    """f32[B, 2] above 0, factors of height and width (1)."""
    degrees: Array
    """f32[B], anticlockwise (0)."""
    shift: Array
    """f32[B, 2], pixels down and to the right (0)."""
    light: Array
    """f32[B, 2]: the share by which the lower and the right edge are brighter than the middle (0)."""
    gamma: Array
    """f32[B] above 0, exponent of brightness in [0, 1] (1)."""
    contrast: Array
    """f32[B] in [0, 1], factor of brightness (1)."""
    softness: Array
    """f32[B] in [0, 1]: how far the object's edge fades into the background (0)."""
    hole: Array
    """f32[B, 3]: row, column and radius of a disc that is lost, in half edges, from the middle (radius 0)."""


def draw_variation(key: Array, rows: int) -> Variation:
    """Draws independent variations of `rows` images: all but the mirroring uniformly, gamma in its logarithm."""
    mirror_key, *keys = jax.random.split(key, 10)

    def uniform(number: int, shape: tuple[int, ...], low: float, high: float) -> Array:
        return jax.random.uniform(keys[number], (rows, *shape), jnp.float32, minval=low, maxval=high)

    return Variation(
        mirrored=jax.random.bernoulli(mirror_key, jnp.float32(0.5), (rows,)),
        scale=uniform(0, (2,), *_SCALE),
        degrees=uniform(1, (), -_DEGREES, _DEGREES),
        shift=uniform(2, (2,), -_SHIFT, _SHIFT),
        light=uniform(3, (2,), -_LIGHT, _LIGHT),
        gamma=jnp.exp(uniform(4, (), -_GAMMA, _GAMMA)),
        contrast=uniform(5, (), *_CONTRAST),
        softness=uniform(6, (), 0.0, 1.0),
        hole=jnp.concatenate([uniform(7, (2,), -1.0, 1.0), uniform(8, (1,), 0.0, _HOLE)], axis=-1),
    )


def vary(images: Array, variation: Variation) -> Array:
    """Applies a variation, in the order of its fields; the background, 0, stays 0.

    Args:
      images: [B, H, W, C], u8 in [0, 255] or floats in [0, 1].
      variation: of B rows.

    Returns:
      [B, H, W, C] in the dtype of `images`; bytes are rounded to whole numbers.

    Raises:
      ValueError: the images are neither bytes nor floats.
    """
    from_bytes = is_uint8(images)
    levels = images.astype(at_least_float32(images.dtype)) / (255 if from_bytes else 1)
    varied = jax.vmap(_vary_one)(levels, variation)
    return (jnp.round(255 * varied) if from_bytes else varied).astype(images.dtype)


def _vary_one(image: Array, variation: Variation) -> Array:
    height, width, _ = image.shape
    y, x = centred_grid(height, width)
    warped = _warp(image, y, x, variation)
    down, across = ((2 / edge * grid)[..., None].astype(image.dtype) for edge, grid in ((height, y), (width, x)))
    light, gamma, contrast, softness, hole = (part.astype(image.dtype) for part in variation[4:])
    lit = jnp.clip(warped * (1 + light[0] * down + light[1] * across), 0, 1)
    inside = lit > 0
    # A power of 0 has no derivative where gamma is less than 1.
    shaded = contrast * jnp.where(inside, jnp.where(inside, lit, 1) ** gamma, 0)
    garment = inside.any(-1, keepdims=True)  # in any channel: where just one of them ends is no edge of the garment
    soft = shaded * (1 - softness * (1 - _blur(garment.astype(image.dtype))))
    hole_mask = (down - hole[0]) ** 2 + (across - hole[1]) ** 2 < hole[2] ** 2
    return jnp.where(hole_mask, 0, soft)


def _warp(image: Array, y: Array, x: Array, variation: Variation) -> Array:
    """Mirrors, scales, rotates and shifts an image by looking up where each pixel came from."""
    angle = jnp.deg2rad(variation.degrees)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y, x = y - variation.shift[0], x - variation.shift[1]
    y, x = (cos * y + sin * x) / variation.scale[0], (cos * x - sin * y) / variation.scale[1]
    return sample_image(image, y, jnp.where(variation.mirrored, -x, x))


def _blur(image: Array) -> Array:
    """Averages [H, W, C] over 3x3 pixels with binomial weights, padding with 0."""
    rows = jnp.pad(image, ((1, 1), (0, 0), (0, 0)))
    down = (rows[:-2] + 2 * image + rows[2:]) / 4
    columns = jnp.pad(down, ((0, 0), (1, 1), (0, 0)))
    return (columns[:, :-2] + 2 * down + columns[:, 2:]) / 4


def make_photo_like(probability: float | Array) -> Callable[[Array, Array], Array]:
    """Varies some images the way photos of garments differ from those of the data set.

    They are mirrored, rotated, scaled and shifted a little, lit from one side, changed in contrast and gamma, softened
    at the edges, and lose a part: what is left of a garment once it has been cut out of a photo.

    Args:
      probability: that an image is varied; f32[] if traced.

    Returns:
      `(key, images [B, H, W, C]) -> images`, an `Augment`.

    Raises (the augmentation):
      ValueError: the images are neither bytes nor floats.
    """

    def photo_like(key: Array, images: Array) -> Array:
        def draw(key: Array, rows: int) -> tuple[Array, Variation]:
            chosen_key, key = jax.random.split(key)
            chosen = jax.random.bernoulli(chosen_key, jnp.asarray(probability, jnp.float32), (rows, 1, 1, 1))
            return chosen, draw_variation(key, rows)

        chosen, variation = for_rows(draw, key, images)
        return jnp.where(chosen, vary(images, variation), images)

    return photo_like
