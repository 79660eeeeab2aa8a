"""Operations whose plain form XLA:CPU compiles badly, each with the measurement that justifies it.

All are ordinary functions of arrays with the semantics of their `jax.lax` or Flax namesakes, and other platforms keep
the plain form where it is as fast. Times are for a forward and backward pass on 128 images in float32 in a compiled
loop, on two cores of an AMD EPYC with AVX-512 (jax 0.10.2): `experiments.benchmark.layer_times` prints them. Each has
derivatives of every order in forward and reverse mode, and works under `jit`, `vmap`, `scan`, meshes with automatic
and explicit axes, and `shard_map` with `check_vma`, JAX's default, where statistics are those of the whole batch.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fmnist_jax.functional import convolution
from fmnist_jax.functional.pixels import check_inexact
from fmnist_jax.functional.sharding import with_auto_axes

_MAX_PATCH_VALUES = 64  # in a patch that is gathered for a pooled maximum: that saves steps, no multiplications


def _check_shapes(x: Array, kernel: Array) -> None:
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(
            f"images {list(x.shape)} and a kernel {list(kernel.shape)}: expected [B, H, W, C_in] and "
            "[K, K, C_in, C_out]"
        )
    if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
        raise ValueError(f"the kernel is {kernel.shape[0]}x{kernel.shape[1]}: expected a square with an odd side")


def conv(x: Array, kernel: Array) -> Array:
    """Convolves with stride 1 and zero padding that keeps the spatial size.

    The transposed convolutions that autodiff emits miss XLA:CPU's library kernels inside a compiled loop: a
    3x3 kernel on 28x28x32 takes 2,717 ms with them. The same sums written as ordinary convolutions take 31 ms.
    Small images with many channels use Winograd's form: 7x7x128 takes 12 ms, against 972 ms by autodiff.

    Args:
      x: [B, H, W, C_in].
      kernel: [K, K, C_in, C_out], K odd.

    Returns:
      [B, H, W, C_out].

    Raises:
      ValueError: the kernel is not square, K is even, or the kernel is not for images of such a shape.
    """
    _check_shapes(x, kernel)
    return with_auto_axes(convolution.conv, rows=True)(x, kernel)


def conv_max_pool(x: Array, kernel: Array) -> Array:
    """Convolves, then takes the maximum of each 2x2 window: `max_pool(conv(x, kernel))`.

    Where the input has few channels (with 3x3 kernels four at most), each of the four outputs in a window is a linear
    map of the same patch of (K + 1)^2 pixels, so one matrix product of patches computes all four: 8 ms for a 3x3 kernel
    on 28x28x1 with 32 outputs, against 92 ms in two plain steps.

    Args:
      x: [B, H, W, C_in].
      kernel: [K, K, C_in, C_out], K odd.

    Returns:
      [B, H // 2, W // 2, C_out].

    Raises:
      ValueError: the kernel is not square, K is even, or the kernel is not for images of such a shape.
    """
    _check_shapes(x, kernel)
    if (kernel.shape[0] + 1) ** 2 * kernel.shape[2] > _MAX_PATCH_VALUES:
        return max_pool(conv(x, kernel))

    def pooled_conv(x: Array, kernel: Array) -> Array:
        y = convolution.conv_windows(x, kernel)
        return _max_of_windows(y.reshape(*y.shape[:2], x.shape[2] // 2, 4, y.shape[3]))

    return with_auto_axes(pooled_conv, rows=True)(x, kernel)


def conv_avg_pool(x: Array, kernel: Array) -> Array:
    """Convolves, then takes the mean of each 2x2 window, dropping an odd last row or column.

    A convolution and a mean are both sums of shifted images, so either may come first. On a CPU the means come first,
    and the kernel is then applied to every other one of them, as one matrix product of gathered patches: for K = 3 that
    is 9 multiplications per input and output channel instead of 36. Elsewhere the kernel averaged over its four
    positions is applied as one convolution of stride 2, with 16 multiplications. A 3x3 kernel on 14x14x48 with 96
    outputs takes 7 ms, against 20 ms by `conv` followed by a mean.

    Args:
      x: [B, H, W, C_in].
      kernel: [K, K, C_in, C_out], K odd.

    Returns:
      [B, H // 2, W // 2, C_out].

    Raises:
      ValueError: the kernel is not square, K is even, or the kernel is not for images of such a shape; or either is of
        integers.
    """
    _check_shapes(x, kernel)
    check_inexact(images=x, kernel=kernel)
    return with_auto_axes(convolution.conv_mean, rows=True)(x, kernel)


def avg_pool(x: Array) -> Array:
    """Takes the mean of each 2x2 window with stride 2, dropping an odd last row or column.

    Args:
      x: floats or complex numbers [B, H, W, C].

    Returns:
      [B, H // 2, W // 2, C], in the dtype of `x`.

    Raises:
      ValueError: the images are bytes or other integers, whose sums would overflow.
    """
    check_inexact(images=x)
    windows = (1, 2, 2, 1)
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, windows, windows, "VALID") / 4


@jax.custom_jvp
def _max_of_windows(x: Array) -> Array:
    """The maxima of [B, H, W, 4, C], by pairs where no gradient is taken, which evaluates `fast` 1.1 times as fast."""
    return jnp.maximum(jnp.maximum(x[:, :, :, 0], x[:, :, :, 1]), jnp.maximum(x[:, :, :, 2], x[:, :, :, 3]))


# In training, a step of the network of `fast` in 0.1.0 takes 1.08 times as long by pairs, 1.04 by maxima over two axes.
_max_of_windows.defjvp(lambda primals, tangents: jax.jvp(lambda x: x.max(3), primals, tangents))


def max_pool(x: Array) -> Array:
    """Takes the maximum of each 2x2 window with stride 2, dropping an odd last row or column.

    Takes 6 ms, against 33 ms for XLA's reduce-window, whose gradient is a select-and-scatter. In a tie, the equal
    elements share the gradient.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, H // 2, W // 2, C].
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    rows = _maximum(x[:, 0:height:2], x[:, 1:height:2])
    return _maximum(rows[:, :, 0:width:2], rows[:, :, 1:width:2])


@jax.custom_jvp
def _maximum(x: Array, y: Array) -> Array:
    """The maximum of each pair, with a derivative that compares the pair, not, as JAX's does, each with the maximum.

    A compiler may recompute `x` for the derivative and round it differently from when it computed the maximum: then
    neither element would equal the maximum, and the gradient would be lost.
    """
    return jnp.maximum(x, y)


def _maximum_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, y), (d_x, d_y) = primals, tangents
    share = ((x > y).astype(x.dtype) + (x >= y).astype(x.dtype)) / 2
    return _maximum(x, y), share * d_x + (1 - share) * d_y


_maximum.defjvp(_maximum_jvp)
