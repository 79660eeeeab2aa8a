"""Operations whose plain spelling XLA:CPU compiles badly, each with the measurement that justifies it.

All are ordinary functions of arrays with the semantics of their `jax.lax` or Flax namesakes, and other platforms
keep the plain spelling where it is as fast. Times are for forward and backward on 128 images in float32 inside a
compiled loop, on two x86-64 cores with jax 0.10.2, as `experiments/layer_times.py` prints them. Because `batch_norm`
and, on large images, `conv` define their own reverse rules, they support `grad` (nested too), `vmap`, `scan` and
`jit`, but not forward mode (`jvp`): take Hessian-vector products as a gradient of a gradient.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from fmnist_jax import winograd

_NHWC = ("NHWC", "HWIO", "NHWC")

EPSILON = 1e-5  # added to a variance before its root, as in PyTorch

# Where `experiments/layer_times.py` finds Winograd's form to be the faster one.
_WINOGRAD_PIXELS = 8  # at most, on a side
_WINOGRAD_CHANNELS = 64  # at least, in and out
_PARTS = 8  # of the batch, in the sum over it of a kernel gradient
_PATCH_VALUES = 64  # the most values in the patch behind a pooled output that are worth gathering


def _conv(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_NHWC)


def _check_square(kernel: Array) -> None:
    if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
        raise ValueError(f"the kernel is {kernel.shape[0]}x{kernel.shape[1]}: expected a square of odd side")


def conv(x: Array, kernel: Array) -> Array:
    """Convolves with stride 1 and zero padding that keeps the spatial size.

    The transposed convolutions that autodiff emits miss XLA:CPU's library kernels inside a compiled loop: a
    3x3 kernel on 28x28x32 takes 3,307 ms with them. The same sums written as one ordinary convolution (for the
    input) and as one matrix product (for the kernel) take 60 ms. Small images with many channels
    take Winograd's form: 7x7x128 needs 16 ms instead of 32.

    Args:
      x: [B, H, W, C_in].
      kernel: [K, K, C_in, C_out], K odd.

    Returns:
      [B, H, W, C_out].

    Raises:
      ValueError: the kernel is not square, or K is even.
    """
    _check_square(kernel)
    small = kernel.shape[0] == winograd.KERNEL and max(x.shape[1:3]) <= _WINOGRAD_PIXELS
    on_cpu = winograd.winograd_conv if small and min(kernel.shape[2:]) >= _WINOGRAD_CHANNELS else _conv_of_large
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=_conv)


@jax.custom_vjp
def _conv_of_large(x: Array, kernel: Array) -> Array:
    return _conv(x, kernel)


def _conv_fwd(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, kernel), (x, kernel)


def _conv_bwd(residuals: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    """The input's gradient as an ordinary convolution, the kernel's as matrix products.

    With the image shifted along its rows by each column of the kernel, and `g` shifted the other way by each row of
    it, every pair of shifts is a block of one product: two copies of K times the size instead of one of K^2.
    """
    x, kernel = residuals
    size, (height, width), inputs, outputs = kernel.shape[0], x.shape[1:3], *kernel.shape[2:]
    pad = size // 2
    wide, tall = jnp.pad(x, ((0, 0), (0, 0), (pad, pad), (0, 0))), jnp.pad(g, ((0, 0), (pad, pad), (0, 0), (0, 0)))
    across = jnp.concatenate([wide[:, :, j : j + width] for j in range(size)], axis=-1)
    down = jnp.concatenate([tall[:, i : i + height] for i in reversed(range(size))], axis=-1)
    # Without the barriers XLA folds the shifts, the flip and the swap back into the spelling that it is slow at.
    across, down = lax.optimization_barrier((across, down))
    # A sum over so many pixels is spread better over the cores in parts: 5 ms instead of 8 at 14x14, 32 to 64 channels.
    parts = math.gcd(len(x), _PARTS)
    across, down = across.reshape(parts, -1, size * inputs), down.reshape(parts, -1, size * outputs)
    blocks = jnp.einsum("pnk,pno->pko", across, down).sum(0)
    d_kernel = blocks.reshape(size, inputs, size, outputs).transpose(2, 0, 1, 3)
    transposed = lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
    return _conv(g, transposed), d_kernel


_conv_of_large.defvjp(_conv_fwd, _conv_bwd)


def conv_max_pool(x: Array, kernel: Array) -> Array:
    """Convolves, then takes the maximum of each 2x2 window: `max_pool(conv(x, kernel))`.

    Where the input has one channel, each of the four outputs in a window is a linear map of the same patch of
    (K + 1)^2 pixels, so four matrix products of patches do, and their maximum is over whole arrays: 5 ms for a 3x3
    kernel on 28x28x1 with 32 outputs, against 17 ms in two steps.

    Args:
      x: [B, H, W, C_in].
      kernel: [K, K, C_in, C_out], K odd.

    Returns:
      [B, H // 2, W // 2, C_out].

    Raises:
      ValueError: the kernel is not square, or K is even.
    """
    _check_square(kernel)
    if (kernel.shape[0] + 1) ** 2 * kernel.shape[2] > _PATCH_VALUES:
        return max_pool(conv(x, kernel))
    return lax.platform_dependent(x, kernel, cpu=_conv_max_pool_of_patches, default=lambda *a: max_pool(conv(*a)))


def _conv_max_pool_of_patches(x: Array, kernel: Array) -> Array:
    size, features = kernel.shape[0], kernel.shape[3]
    batch, height, width = x.shape[0], x.shape[1] // 2, x.shape[2] // 2
    padded = jnp.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    # [B, H // 2, W // 2, K + 1, K + 1, C_in]
    corners = [
        [padded[:, i : i + 2 * height : 2, j : j + 2 * width : 2] for j in range(size + 1)] for i in range(size + 1)
    ]
    patches = lax.optimization_barrier(jnp.stack([jnp.stack(row, 3) for row in corners], 3))
    patches = patches.reshape(batch * height * width, -1)
    windows = [
        jnp.dot(patches, jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))).reshape(-1, features))
        for i in range(2)
        for j in range(2)
    ]
    pooled = jnp.maximum(jnp.maximum(windows[0], windows[1]), jnp.maximum(windows[2], windows[3]))
    return pooled.reshape(batch, height, width, features)


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
