"""Operations whose plain spelling XLA:CPU compiles badly, each with the measurement that justifies it.

All are ordinary functions of arrays with the semantics of their `jax.lax` or Flax namesakes. Times are for
forward and backward on 128 images of 28x28x32 in float32 inside a compiled loop, on two x86-64 cores with jax
0.10.2, as `experiments/layer_times.py` prints them. Because they define their own reverse rules, `conv` and
`batch_norm` support `grad` (nested too), `vmap`, `scan` and `jit`, but not forward mode (`jvp`): take
Hessian-vector products as a gradient of a gradient.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

_NHWC = ("NHWC", "HWIO", "NHWC")

EPSILON = 1e-5  # added to a variance before its root, as in PyTorch


def _conv(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_NHWC)


@jax.custom_vjp
def conv(x: Array, kernel: Array) -> Array:
    """Convolves with stride 1 and zero padding that keeps the spatial size.

    The transposed convolutions that autodiff emits miss XLA:CPU's library kernels inside a compiled loop: a
    3x3 kernel takes 3,307 ms with them. The same sums written as one ordinary convolution (for the input) and
    as one matrix product per kernel row (for the kernel) take 77 ms. Other platforms keep autodiff's spelling.

    Args:
      x: [B, H, W, C_in].
      kernel: [K, K, C_in, C_out], K odd.

    Returns:
      [B, H, W, C_out].

    Raises:
      ValueError: the kernel is not square, or K is even.
    """
    return _conv_fwd(x, kernel)[0]


def _conv_fwd(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
        raise ValueError(f"the kernel is {kernel.shape[0]}x{kernel.shape[1]}: expected a square of odd side")
    return _conv(x, kernel), (x, kernel)


def _conv_bwd(residuals: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    return lax.platform_dependent(*residuals, g, cpu=_conv_gradients, default=_conv_autodiff)


def _conv_autodiff(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    return jax.vjp(_conv, x, kernel)[1](g)


def _conv_gradients(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    """Gradients of `conv` as an ordinary convolution (input) and a matrix product per kernel row (kernel)."""
    size, (height, width), channels = kernel.shape[0], x.shape[1:3], x.shape[3]
    # Without the barriers XLA folds the flip, the swap and the shifts back into the spelling that it is slow at.
    transposed = lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
    pad = size // 2
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    shifted = lax.optimization_barrier(
        jnp.concatenate([padded[:, :, j : j + width] for j in range(size)], axis=-1)
    )  # [B, H + 2 pad, W, K * C_in]
    # The gradient comes first: XLA:CPU multiplies [C_out, n] by [n, K * C_in] twice as fast as the reverse.
    rows = [jnp.einsum("bhwo,bhwk->ok", g, shifted[:, i : i + height]) for i in range(size)]
    d_kernel = jnp.stack(rows).reshape(size, -1, size, channels).transpose(0, 2, 3, 1)
    return _conv(g, transposed), d_kernel


conv.defvjp(_conv_fwd, _conv_bwd)


def max_pool(x: Array) -> Array:
    """Takes the maximum of each 2x2 window with stride 2, dropping an odd last row or column.

    Takes 4 ms, against 27 ms for Flax's `max_pool`, whose gradient is a select-and-scatter. A tie shares its
    gradient between the equal elements.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, H // 2, W // 2, C].
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    rows = jnp.maximum(x[:, 0:height:2], x[:, 1:height:2])
    return jnp.maximum(rows[:, :, 0:width:2], rows[:, :, 1:width:2])


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, Array, Array]:
    return _normalize_fwd(x, scale, bias, epsilon)[0]


def _normalize_fwd(
    x: Array, scale: Array, bias: Array, epsilon: float
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array, Array]]:
    wide = x.astype(jnp.float32)
    mean = wide.mean((0, 1, 2), keepdims=True)
    # Two passes: the one-pass form (mean of squares less squared mean) cancels in float32.
    variance = jnp.square(wide - mean).mean((0, 1, 2), keepdims=True)
    inverse = lax.rsqrt(variance + epsilon)
    y = ((wide - mean) * (inverse * scale) + bias).astype(x.dtype)
    return (y, mean, variance), (x, scale, mean, inverse)


def _normalize_bwd(
    epsilon: float, residuals: tuple[Array, Array, Array, Array], cotangents: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3, with the sums over the batch gathered."""
    del epsilon  # `inverse` has it
    x, scale, mean, inverse = residuals
    g = cotangents[0].astype(jnp.float32)
    normal = (x.astype(jnp.float32) - mean) * inverse
    d_bias = g.sum((0, 1, 2), keepdims=True)
    d_scale = (g * normal).sum((0, 1, 2), keepdims=True)
    count = x.size // x.shape[-1]
    d_x = (scale * inverse) * (g - (d_bias + normal * d_scale) / count)
    return d_x.astype(x.dtype), d_scale, d_bias


_normalize.defvjp(_normalize_fwd, _normalize_bwd)


def batch_norm(x: Array, scale: Array, bias: Array, epsilon: float = EPSILON) -> tuple[Array, Array, Array]:
    """Normalises each channel by its mean and variance over the batch (arXiv:1502.03167).

    With the closed-form gradient this takes 8 ms, against 13 ms by autodiff. Statistics are float32 whatever
    the dtype of `x`; no gradient flows through the returned ones.

    Args:
      x: [B, H, W, C].
      scale: f32[C].
      bias: f32[C].
      epsilon: added to the variance.

    Returns:
      The normalised images, in the dtype of `x`; the mean f32[C]; the (biased) variance f32[C].
    """
    y, mean, variance = _normalize(x, scale.reshape(1, 1, 1, -1), bias.reshape(1, 1, 1, -1), epsilon)
    return y, lax.stop_gradient(mean).reshape(-1), lax.stop_gradient(variance).reshape(-1)
