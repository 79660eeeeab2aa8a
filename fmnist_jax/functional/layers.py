"""Operations whose plain spelling XLA:CPU compiles badly, each with the measurement that justifies it.

All are ordinary functions of arrays with the semantics of their `jax.lax` or Flax namesakes, and other platforms
keep the plain spelling where it is as fast. Times are for forward and backward on 128 images in float32 inside a
compiled loop, on two cores of an AMD EPYC with jax 0.12.0.1: `experiments.benchmark.layer_times` prints them. Each has
derivatives of every order in forward and reverse mode, and works under `jit`, `vmap`, `scan`, meshes with automatic and
explicit axes, and `shard_map`, where statistics are those of the whole batch.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fmnist_jax.functional import convolution, winograd
from fmnist_jax.functional.sharding import automatic, batch_axes

EPSILON = 1e-5  # added to a variance before its root, as in PyTorch

# Where `experiments.benchmark.layer_times` finds Winograd's form to be the faster one.
_WINOGRAD_PIXELS = 8  # at most, on a side
_WINOGRAD_CHANNELS = 64  # at least, in and out
_PATCH_VALUES = 64  # the most in a patch behind a pooled maximum: gathering one spares no product, only steps


def _check_square(kernel: Array) -> None:
    if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
        raise ValueError(f"the kernel is {kernel.shape[0]}x{kernel.shape[1]}: expected a square of odd side")


def conv(x: Array, kernel: Array) -> Array:
    """Convolves with stride 1 and zero padding that keeps the spatial size.

    The transposed convolutions that autodiff emits miss XLA:CPU's library kernels inside a compiled loop: a
    3x3 kernel on 28x28x32 takes 3,499 ms with them. The same sums written as ordinary convolutions take 47 ms.
    Small images with many channels take Winograd's form: 7x7x128 takes 18 ms, against 1,396 ms by autodiff.

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
    if not small or min(kernel.shape[2:]) < _WINOGRAD_CHANNELS:
        return automatic(convolution.conv, rows=True)(x, kernel)
    by_platform = partial(lax.platform_dependent, cpu=winograd.winograd_conv, default=convolution.conv)
    return automatic(by_platform, rows=True)(x, kernel)


def conv_max_pool(x: Array, kernel: Array) -> Array:
    """Convolves, then takes the maximum of each 2x2 window: `max_pool(conv(x, kernel))`.

    Where the input has one channel, each of the four outputs in a window is a linear map of the same patch of
    (K + 1)^2 pixels, so one matrix product of patches does for all four: 6 ms for a 3x3
    kernel on 28x28x1 with 32 outputs, against 107 ms in two plain steps.

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
    by_platform = partial(
        lax.platform_dependent,
        cpu=_conv_max_pool_of_patches,
        default=lambda x, kernel: max_pool(convolution.conv(x, kernel)),
    )
    return automatic(by_platform, rows=True)(x, kernel)


def _conv_max_pool_of_patches(x: Array, kernel: Array) -> Array:
    features = kernel.shape[3]
    patches = _window_patches(x, len(kernel))
    matrix = jnp.stack(_window_kernels(kernel), 3).reshape(-1, 4 * features)
    windows = jnp.dot(patches.reshape(-1, len(matrix)), matrix).reshape(-1, 4, features)
    return windows.max(1).reshape(*patches.shape[:3], features)


def conv_avg_pool(x: Array, kernel: Array) -> Array:
    """Convolves, then takes the mean of each 2x2 window, dropping an odd last row or column.

    The mean of the four outputs in a window is one product of the patch of (K + 1)^2 pixels behind them with the mean
    of the four places that the kernel can lie at: for K = 3 that is 16 products an input and output channel instead
    of 36. On a CPU it is a matrix product of gathered patches, elsewhere a convolution of stride 2. For a 3x3 kernel on
    14x14x48 with 96 outputs it takes 24 ms, against 44 ms by `conv` and a mean after it.

    Args:
      x: [B, H, W, C_in].
      kernel: [K, K, C_in, C_out], K odd.

    Returns:
      [B, H // 2, W // 2, C_out].

    Raises:
      ValueError: the kernel is not square, or K is even.
    """
    _check_square(kernel)
    by_platform = partial(lax.platform_dependent, cpu=_conv_avg_pool_of_patches, default=_conv_avg_pool_strided)
    return automatic(by_platform, rows=True)(x, kernel)


def _conv_avg_pool_of_patches(x: Array, kernel: Array) -> Array:
    patches = _window_patches(x, len(kernel))
    features = kernel.shape[3]
    matrix = _mean_window_kernel(kernel).reshape(-1, features)
    return jnp.dot(patches.reshape(-1, len(matrix)), matrix).reshape(*patches.shape[:3], features)


def _conv_avg_pool_strided(x: Array, kernel: Array) -> Array:
    padding = [(len(kernel) // 2,) * 2] * 2
    return lax.conv_general_dilated(x, _mean_window_kernel(kernel), (2, 2), padding, dimension_numbers=convolution.NHWC)


def _window_patches(x: Array, size: int) -> Array:
    """The zero-padded pixels behind each 2x2 window of outputs: [B, H // 2, W // 2, K + 1, K + 1, C_in]."""
    height, width = x.shape[1] // 2, x.shape[2] // 2
    padded = jnp.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    corners = [
        [padded[:, i : i + 2 * height : 2, j : j + 2 * width : 2] for j in range(size + 1)] for i in range(size + 1)
    ]
    return lax.optimization_barrier(jnp.stack([jnp.stack(row, 3) for row in corners], 3))


def _window_kernels(kernel: Array) -> list[Array]:
    """The kernel at each of its four places in a patch: [K + 1, K + 1, C_in, C_out] each."""
    return [jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in range(2) for j in range(2)]


def _mean_window_kernel(kernel: Array) -> Array:
    """The mean of the kernel at its four places, as one kernel: [K + 1, K + 1, C_in, C_out]."""
    return jnp.stack(_window_kernels(kernel)).mean(0)


def avg_pool(x: Array) -> Array:
    """Takes the mean of each 2x2 window with stride 2, dropping an odd last row or column.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, H // 2, W // 2, C], in the dtype of `x`.
    """
    windows = (1, 2, 2, 1)
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, windows, windows, "VALID") / 4


def max_pool(x: Array) -> Array:
    """Takes the maximum of each 2x2 window with stride 2, dropping an odd last row or column.

    Takes 7 ms, against 35 ms for XLA's reduce-window, whose gradient is a select-and-scatter. A tie shares its
    gradient between the equal elements.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, H // 2, W // 2, C].
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    rows = jnp.maximum(x[:, 0:height:2], x[:, 1:height:2])
    return jnp.maximum(rows[:, :, 0:width:2], rows[:, :, 1:width:2])


def _batch_mean(x: Array, axes: tuple[str, ...]) -> Array:
    """The mean of each channel over the batch, of which each shard along `axes` has a part."""
    mean = x.mean((0, 1, 2), keepdims=True)
    return lax.pmean(mean, axes) if axes else mean


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _normalize(
    x: Array, scale: Array, bias: Array, epsilon: float, axes: tuple[str, ...]
) -> tuple[Array, Array, Array]:
    wide = x.astype(jnp.float32)
    mean = _batch_mean(wide, axes)
    # Two passes: the one-pass form (mean of squares less squared mean) cancels in float32.
    variance = _batch_mean(jnp.square(wide - mean), axes)
    inverse = lax.rsqrt(variance + epsilon)
    y = ((wide - mean) * (inverse * scale) + bias).astype(x.dtype)
    return y, mean, variance


def _normalize_jvp(
    epsilon: float, axes: tuple[str, ...], primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    """The derivative with its channel-wise parts gathered before they are spread over the batch.

    Its transpose then sums the cotangent over the batch twice, once by itself and once with the normalised images: that
    is the closed form of Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3.
    """
    (x, scale, _), (d_x, d_scale, d_bias) = primals, tangents
    y, mean, variance = _normalize(*primals, epsilon, axes)
    inverse = lax.rsqrt(variance + epsilon)
    normal = (x.astype(jnp.float32) - mean) * inverse
    d_wide, slope = d_x.astype(jnp.float32), scale * inverse
    d_mean, d_deviation = _batch_mean(d_wide, axes), _batch_mean(normal * d_wide, axes)
    d_y = slope * d_wide + (d_bias - slope * d_mean) + normal * (d_scale - slope * d_deviation)
    return (y, mean, variance), (d_y.astype(x.dtype), d_mean, 2 * d_deviation / inverse)


_normalize.defjvp(_normalize_jvp)


def batch_norm(x: Array, scale: Array, bias: Array, epsilon: float = EPSILON) -> tuple[Array, Array, Array]:
    """Normalises each channel by its mean and variance over the batch (arXiv:1502.03167).

    With the closed-form gradient this takes 8 ms, against 10 ms by autodiff. Statistics are float32 whatever
    the dtype of `x`; no gradient flows through the returned ones.

    Args:
      x: [B, H, W, C].
      scale: f32[C].
      bias: f32[C].
      epsilon: added to the variance.

    Returns:
      The normalised images, in the dtype of `x`; the mean f32[C]; the (biased) variance f32[C].
    """
    channels = [weights.reshape(1, 1, 1, -1) for weights in (scale, bias)]
    y, mean, variance = _normalize(x, *channels, epsilon, batch_axes(x, (scale, bias)))
    return y, lax.stop_gradient(mean).reshape(-1), lax.stop_gradient(variance).reshape(-1)
