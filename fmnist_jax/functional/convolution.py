"""Convolutions of images, alone and with the pooling after them, in forms that XLA:CPU computes fast, too."""

import math

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.layout import Layout, with_layout_constraint

from fmnist_jax.functional import winograd
from fmnist_jax.functional.bilinear import BilinearOps, bilinear, ops_by_transposition
from fmnist_jax.functional.precision import at_least_float32

NHWC = ("NHWC", "HWIO", "NHWC")

# Winograd's form is faster for images of up to this many pixels a side and from this many channels on, in and out.
_WINOGRAD_PIXELS = 8
_WINOGRAD_CHANNELS = 64


def convolve(x: Array, kernel: Array) -> Array:
    """The convolution as one XLA operation: stride 1, zero padding that keeps the spatial size.

    Args:
      x: [B, H, W, C_in].
      kernel: [K, K, C_in, C_out], K odd.

    Returns:
      [B, H, W, C_out].
    """
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=NHWC)


def _image_gradient(g: Array, kernel: Array, *, sides: tuple[int, int]) -> Array:
    """An ordinary convolution of `g` with the kernel flipped and its channels swapped."""
    del sides  # those of `g`
    # The barriers keep XLA from folding the flip and the swap of channels back into the form that it is slow at.
    g, kernel = lax.optimization_barrier((g, kernel))
    return convolve(g, lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3)))


def _kernel_gradient(x: Array, g: Array, *, size: int) -> Array:
    """An ordinary convolution of the images with `g`."""
    x, g = lax.optimization_barrier((x, g))
    # In two steps, pixels first, then channels: in one, fused with the recomputation of the images, 128x28x28x32 took
    # 9 ms of a step of the notebook's network instead of 5 (two cores of an AMD EPYC of Zen 4, jax 0.10.2).
    x, g = lax.optimization_barrier(tuple(_row_major(each.transpose(1, 2, 0, 3)) for each in (x, g)))
    # With the channels as batch and the batch as channels, each kernel entry is one position of `g` over the images.
    x, g = lax.optimization_barrier((_row_major(x.transpose(3, 0, 1, 2)), g))
    padding = [(size // 2, size // 2)] * 2
    return lax.conv_general_dilated(x, g, (1, 1), padding, dimension_numbers=NHWC).transpose(1, 2, 0, 3)


def _row_major(x: Array) -> Array:
    """The array, laid out in the order of its axes: otherwise, from jax 0.12 on, a transposed one is copied twice."""
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


def _winograd_image_gradient(g: Array, kernel: Array, *, sides: tuple[int, int]) -> Array:
    """A convolution of `g` with the flipped kernel, also in Winograd's form.

    The transpose of Winograd's products would contract the kernel's values along their other axis: 5.6 ms instead of
    3.2 for 128 images of 3x3x192.
    """
    del sides  # those of `g`
    return winograd.convolve(g, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))


_DIRECT = BilinearOps(convolve, _image_gradient, _kernel_gradient)
_WINOGRAD = ops_by_transposition(winograd.convolve)._replace(image_gradient=_winograd_image_gradient)


def _fastest_ops(sides: tuple[int, ...], kernel: tuple[int, ...]) -> BilinearOps:
    """The faster implementation for images of these sides and a kernel of this shape."""
    few_pixels, many_channels = 0 < min(sides) <= max(sides) <= _WINOGRAD_PIXELS, min(kernel[2:]) >= _WINOGRAD_CHANNELS
    return _WINOGRAD if kernel[0] == winograd.KERNEL_SIZE and few_pixels and many_channels else _DIRECT


def _single_channel_conv(x: Array, kernel: Array) -> Array:
    """The convolution of single-channel images, as a loop over the output features of each pixel."""
    size, (height, width), compute_dtype = len(kernel), x.shape[1:3], at_least_float32(x.dtype)
    border = (size // 2, size // 2)
    padded = lax.optimization_barrier(jnp.pad(x.astype(compute_dtype), ((0, 0), border, border, (0, 0))))
    taps = kernel.astype(compute_dtype).reshape(size, size, 1, 1, 1, -1)
    offsets = [(i, j) for i in range(size) for j in range(size)]
    y = sum((padded[:, i : i + height, j : j + width] * taps[i, j] for i, j in offsets), jnp.zeros((), compute_dtype))
    return lax.optimization_barrier(y.astype(x.dtype))  # otherwise each consumer recomputes it


def _conv_on_cpu(x: Array, kernel: Array) -> Array:
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return convolve(x, kernel)  # the others compute in float32, which rounds integers
    # 8 ms instead of 20 for 128 images of 28x28x1 with 32 outputs, on one core of an AMD EPYC (jax 0.10.2).
    if kernel.shape[:3] == (3, 3, 1):
        return _single_channel_conv(x, kernel)
    return _fastest_ops(x.shape[1:3], kernel.shape).operation(x, kernel)


def _image_gradient_on_cpu(g: Array, kernel: Array, *, sides: tuple[int, int]) -> Array:
    return _fastest_ops(sides, kernel.shape).image_gradient(g, kernel, sides=sides)


def _kernel_gradient_on_cpu(x: Array, g: Array, *, size: int) -> Array:
    return _fastest_ops(x.shape[1:3], (size, size, x.shape[3], g.shape[3])).kernel_gradient(x, g, size=size)


def _conv_mean(x: Array, kernel: Array) -> Array:
    """The kernel averaged over its four positions in a window, as one convolution with stride 2."""
    means = jnp.stack(_window_kernels(kernel)).mean(0)
    padding = [(len(kernel) // 2,) * 2] * 2
    return lax.conv_general_dilated(x, means, (2, 2), padding, dimension_numbers=NHWC)


def _conv_mean_of_patches(x: Array, kernel: Array) -> Array:
    """The kernel itself with stride 2, on the means of 2x2 pixels."""
    pad = len(kernel) // 2
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows = padded[:, :-1] + padded[:, 1:]
    means = lax.optimization_barrier((rows[:, :, :-1] + rows[:, :, 1:]) / 4)  # otherwise each patch recomputes it
    return _apply_to_patches(_patches(means, len(kernel)), lax.collapse(kernel, 0, 3))


def _apply_to_patches(patches: Array, matrix: Array) -> Array:
    """Multiplies each patch [B, H, W, ...] of N values by a matrix [N, C]: [B, H, W, C]."""
    shape = patches.shape[:3]
    return jnp.dot(patches.reshape(math.prod(shape), len(matrix)), matrix).reshape(*shape, matrix.shape[1])


def _mean_image_gradient(g: Array, kernel: Array, *, sides: tuple[int, int]) -> Array:
    """One matrix product for all pixels of all patches, which are then summed where patches overlap.

    By transposition, each tap becomes a whole image of its own, mostly zeros: 31 ms instead of 4 for 128 images of
    14x14x64 with 128 outputs (two cores of an AMD EPYC with AVX-512, jax 0.10.2).
    """
    patches = _apply_to_patches(g, lax.collapse(kernel, 0, 3).T / 4).reshape(*g.shape[:3], *kernel.shape[:3])
    rows = _overlap_add(patches, 1, sides[0])
    return _overlap_add(lax.optimization_barrier(rows), 2, sides[1])


def _overlap_add(taps: Array, axis: int, side: int) -> Array:
    """Sums the gradients of overlapping patches into the pixels along an axis; a tap, the mean of two, adds to both.

    Args:
      taps: [B, ..., K, ...], each of the K taps at axis 3.
      axis: 1 or 2, that of the patches, each of which starts two pixels after the one before.
      side: pixels along that axis, without the padding in which the first patch starts.

    Returns:
      The same without axis 3, with pixels in place of patches.
    """
    size, patches, pad = taps.shape[3], taps.shape[axis], taps.shape[3] // 2
    means = [taps[:, :, :, tap] for tap in range(size)]
    pixels = [means[0], *map(jnp.add, means, means[1:]), means[-1]]  # each mean covers a pixel and the next

    def shift_pixels(pixel: int) -> Array:
        before = [(0, 0)] * (taps.ndim - 1)
        before[axis] = (pixel // 2, pad - pixel // 2)
        return jnp.pad(pixels[pixel], before)

    even, odd = (sum(map(shift_pixels, range(parity + 2, size + 1, 2)), shift_pixels(parity)) for parity in range(2))
    shape = list(even.shape)
    shape[axis] = 2 * (patches + pad)
    interleaved = jnp.stack([even, odd], axis + 1).reshape(shape)
    rest = [(0, 0, 0)] * len(shape)
    rest[axis] = (-pad, side + pad - shape[axis], 0)
    return lax.pad(interleaved, jnp.zeros((), interleaved.dtype), rest)


def _conv_windows(x: Array, kernel: Array) -> Array:
    (batch, height, width), features = (x.shape[0], x.shape[1] // 2, x.shape[2] // 2), kernel.shape[3]
    y = convolve(x, kernel)[:, : 2 * height, : 2 * width]
    windows = y.reshape(batch, height, 2, width, 2, features).transpose(0, 1, 3, 2, 4, 5)
    return windows.reshape(batch, height, 4 * width, features)


def _conv_windows_of_patches(x: Array, kernel: Array) -> Array:
    features, patches = kernel.shape[3], _window_patches(x, len(kernel) + 1)
    matrix = jnp.stack(_window_kernels(kernel), 3).reshape(math.prod(patches.shape[3:]), 4 * features)
    batch, height, width = patches.shape[:3]
    return _apply_to_patches(patches, matrix).reshape(batch, height, 4 * width, features)


def _window_patches(x: Array, size: int) -> Array:
    """The zero-padded input pixels of each 2x2 window of outputs: [B, H // 2, W // 2, size, size, C_in]."""
    pad = (size - 1) // 2
    return _patches(jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0))), size)


def _patches(x: Array, size: int) -> Array:
    """The square patches that start at every other pixel: [B, H', W', size, size, C]."""
    height, width = (2 * ((side - size) // 2 + 1) for side in x.shape[1:3])
    corners = [[x[:, i : i + height : 2, j : j + width : 2] for j in range(size)] for i in range(size)]
    return lax.optimization_barrier(jnp.stack([jnp.stack(row, 3) for row in corners], 3))


def _window_kernels(kernel: Array) -> list[Array]:
    """The kernel at each of its four positions in a patch: [K + 1, K + 1, C_in, C_out] each."""
    return [jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in range(2) for j in range(2)]


conv = bilinear(
    "convolution",
    on_cpu=BilinearOps(_conv_on_cpu, _image_gradient_on_cpu, _kernel_gradient_on_cpu),
    elsewhere=ops_by_transposition(convolve),
)
"""Convolves as `convolve` does."""

conv_mean = bilinear(
    "mean_convolution",
    on_cpu=ops_by_transposition(_conv_mean_of_patches)._replace(image_gradient=_mean_image_gradient),
    elsewhere=ops_by_transposition(_conv_mean),
)
"""The mean of each 2x2 window of `conv`, for a kernel [K, K, C_in, C_out], K odd: [B, H // 2, W // 2, C_out].

Takes K^2 multiplications per output and input channel on a CPU, elsewhere (K + 1)^2, in one operation.
"""

conv_windows = bilinear(
    "windowed_convolution",
    on_cpu=ops_by_transposition(_conv_windows_of_patches),
    elsewhere=ops_by_transposition(_conv_windows),
)
"""Convolves as `convolve` does, with the outputs of each 2x2 window side by side: [B, H // 2, W // 2 * 4, C_out].

On a CPU they are computed from the window's patch of input pixels.
"""
