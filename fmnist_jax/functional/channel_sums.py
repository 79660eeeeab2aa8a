"""Sums of each channel over a batch of images, and their transpose, for CPUs before jax 0.12 as matrix products.

XLA:CPU breaks a long sum up into windows of 32 and writes what they give to memory, one window after the other. As
ones times a matrix, of the images for rows, the sum over the batch is a product, which its library computes. Mean and
variance of 128x28x28x32 then take 6.0 ms instead of 11.1, and of 128x14x14x64 2.8 instead of 8.3 (two cores of an AMD
EPYC, jax 0.10.2). From jax 0.12 on, YNNPACK sums (`compiler_options`), and faster than that: a step of the notebook's
network takes 328 ms by its sums and 336 by products.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.interpreters import ad, batching

from fmnist_jax.functional.platforms import platform_primitive

# Pixels on a side, up to which a plain sum is the faster one: `winograd` lays such images out pixel by pixel, which a
# product would copy; and a cotangent that a product reads is computed again by what else reads it, which made a step of
# `fast` take 1.3 times as long.
_FEW_PIXELS, _FEW_PIXELS_OF_COTANGENT = 8, 14
_SUMS_ARE_SLOW = jax.__version_info__ < (0, 12)

_PIXELS = (-4, -3, -2)  # the axes of a batch of images [B, H, W, C] that a sum goes over


def sum_on_cpu(x: Array, few_pixels: int = _FEW_PIXELS) -> Array:
    """Sums values of a forward pass as a CPU does fastest, [..., B, H, W, C] to [..., 1, 1, 1, C].

    Args:
      x: f32[..., B, H, W, C].
      few_pixels: on a side, up to which the sum is a plain one.
    """
    return product_with_ones(x) if _SUMS_ARE_SLOW and max(x.shape[-3:-1]) > few_pixels else _sum(x)


def product_with_ones(x: Array) -> Array:
    """Sums as a product of ones with images for rows, f32[..., B, H, W, C] to [..., 1, 1, 1, C]."""
    *models, batch, height, width, channels = x.shape
    ones, rows = jnp.ones((*models, 1, batch), x.dtype), x.reshape(*models, batch, height * width * channels)
    places = jnp.matmul(ones, rows, precision=lax.Precision.HIGHEST).reshape(*models, 1, 1, height * width, channels)
    return places.sum(-2, keepdims=True)


def _sum_of_cotangent_on_cpu(x: Array) -> Array:
    return sum_on_cpu(x, _FEW_PIXELS_OF_COTANGENT)


def _sum(x: Array) -> Array:
    return x.sum(_PIXELS, keepdims=True)


def _spread(x: Array, *, batch: int, height: int, width: int) -> Array:
    return jnp.broadcast_to(x, (*x.shape[:-4], batch, height, width, x.shape[-1]))


_sum_p = platform_primitive("channel_sum", on_cpu=_sum_of_cotangent_on_cpu, elsewhere=_sum)
_spread_p = platform_primitive("channel_spread", on_cpu=_spread, elsewhere=_spread)


def channel_sum(x: Array) -> Array:
    """Sums each channel over all images and pixels.

    Args:
      x: f32[..., B, H, W, C]; each shard of a `shard_map` sums its own.

    Returns:
      [..., 1, 1, 1, C].
    """
    return _sum_p.bind(x)


def channel_spread(x: Array, shape: Sequence[int]) -> Array:
    """Repeats a value of each channel for all images and pixels: the transpose of `channel_sum`.

    Args:
      x: [1, 1, 1, C].
      shape: B, H, W and C.

    Returns:
      [B, H, W, C].
    """
    batch, height, width, _ = shape
    return _spread_p.bind(x, batch=batch, height=height, width=width)


def _sum_of_cotangent(g: Array, _: Any, **__: int) -> tuple[Array]:
    return (_sum_p.bind(g),)


def _spread_of_cotangent(g: Array, x: Any) -> tuple[Array]:
    batch, height, width, _ = x.aval.shape[-4:]
    return (_spread_p.bind(g, batch=batch, height=height, width=width),)


def _batch_sum(operands: Sequence[Array], axes: Sequence[int]) -> tuple[Array, int]:
    return _sum_p.bind(jnp.moveaxis(operands[0], axes[0], 0)), 0


def _batch_spread(operands: Sequence[Array], axes: Sequence[int], **sizes: int) -> tuple[Array, int]:
    return _spread_p.bind(jnp.moveaxis(operands[0], axes[0], 0), **sizes), 0


ad.deflinear2(_sum_p, _spread_of_cotangent)
ad.deflinear2(_spread_p, _sum_of_cotangent)
batching.primitive_batchers[_sum_p] = _batch_sum
batching.primitive_batchers[_spread_p] = _batch_spread
