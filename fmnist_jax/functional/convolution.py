"""Convolutions of images, alone and with the pooling after them, spelled so that XLA:CPU computes them fast, too."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.layout import Layout, with_layout_constraint

from fmnist_jax.functional import tiles, winograd
from fmnist_jax.functional.bilinear import Faces, Operation, bilinear, faces_of

NHWC = ("NHWC", "HWIO", "NHWC")

# Where Winograd's forms are the faster ones: that of whole images up to so many pixels on a side, that in tiles beyond,
# for gradients on jax before 0.12, each from so many channels on, in and out. The ordinary kernel gradient transposes
# the images and computes the normalisation before them anew, but for images as small as those of `standard` it costs
# less all the same. Milliseconds on two cores of an AMD EPYC, of a step of 128 images, then of 250 in evaluation:
#                                notebook's network            `standard`
#   jax                           0.10.2   0.12.0.1         0.10.2   0.12.0.1
#   all in tiles                308  176   323  206       293  214   290  228
#   gradients in tiles          318        314            281        283
#   none in tiles               337  150   307  153       294  172   283  189
_WINOGRAD_PIXELS = 8
_WINOGRAD_CHANNELS = 64
_TILED_CHANNELS = 32
_FEW_PIXELS, _FEW_CHANNELS = 14, 48  # pixels on a side and channels, up to which a kernel's gradient is ordinary
_GRADIENTS_IN_TILES = jax.__version_info__ < (0, 12)


def convolve(x: Array, kernel: Array) -> Array:
    """The convolution as XLA spells it: stride 1, zero padding that keeps the spatial size.

    Args:
      x: [B, H, W, C_in].
      kernel: [K, K, C_in, C_out], K odd.

    Returns:
      [B, H, W, C_out].
    """
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=NHWC)


def _image_gradient(g: Array, kernel: Array, *, sides: tuple[int, int]) -> Array:
    """An ordinary convolution of `g` by the turned kernel."""
    del sides  # those of `g`
    # The barriers keep XLA from folding the turned and swapped operands back into the spelling that it is slow at.
    g, kernel = lax.optimization_barrier((g, kernel))
    return convolve(g, lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3)))


def _kernel_gradient(x: Array, g: Array, *, size: int) -> Array:
    """An ordinary convolution of the images by `g`."""
    x, g = lax.optimization_barrier((x, g))
    # With channels for a batch and the batch for channels, each kernel entry is one place that `g` can lie at.
    x, g = lax.optimization_barrier((_row_major(x.transpose(3, 1, 2, 0)), _row_major(g.transpose(1, 2, 0, 3))))
    padding = [(size // 2, size // 2)] * 2
    return lax.conv_general_dilated(x, g, (1, 1), padding, dimension_numbers=NHWC).transpose(1, 2, 0, 3)


def _row_major(x: Array) -> Array:
    """The same array, laid out in the order of its axes: from jax 0.12 on, a transposed one is else copied twice."""
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


def _by_turned_kernel(operation: Operation) -> Callable[..., Array]:
    """The gradient of the images as a convolution of `g` by the turned kernel, in the same spelling.

    Transposed, Winograd's products would take the kernel's values along their other axis: 5.6 ms instead of 3.2 for 128
    images of 3x3x192.
    """

    def image_gradient(g: Array, kernel: Array, *, sides: tuple[int, int]) -> Array:
        del sides  # those of `g`
        return operation(g, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))

    return image_gradient


_ORDINARY = Faces(convolve, _image_gradient, _kernel_gradient)
_TILED = Faces(convolve, _by_turned_kernel(tiles.conv), tiles.kernel_gradient) if _GRADIENTS_IN_TILES else _ORDINARY
_WINOGRAD = faces_of(winograd.winograd_conv)._replace(image_gradient=_by_turned_kernel(winograd.winograd_conv))


def _fastest(sides: tuple[int, ...], kernel: tuple[int, ...]) -> Faces:
    """The spelling for images of such sides and a kernel of such a shape."""
    channels = min(kernel[2:])
    if kernel[0] != winograd.KERNEL:
        return _ORDINARY
    if max(sides) <= _WINOGRAD_PIXELS:
        return _WINOGRAD if channels >= _WINOGRAD_CHANNELS else _ORDINARY
    return _TILED if channels >= _TILED_CHANNELS else _ORDINARY


def _conv_of_taps(x: Array, kernel: Array) -> Array:
    """The convolution of images of one channel, as a loop over the features of each pixel."""
    size, (height, width), wide = len(kernel), x.shape[1:3], jnp.promote_types(x.dtype, jnp.float32)
    border = (size // 2, size // 2)
    padded = lax.optimization_barrier(jnp.pad(x.astype(wide), ((0, 0), border, border, (0, 0))))
    taps = kernel.astype(wide).reshape(size, size, 1, 1, 1, -1)
    places = [(i, j) for i in range(size) for j in range(size)]
    y = sum((padded[:, i : i + height, j : j + width] * taps[i, j] for i, j in places), jnp.zeros((), wide))
    return lax.optimization_barrier(y.astype(x.dtype))  # else each of its readers computes it anew


def _conv_on_cpu(x: Array, kernel: Array) -> Array:
    # On 128 images of 28x28x1 with 32 outputs 8 ms instead of 20, on one core of an AMD EPYC (jax 0.10.2).
    if kernel.shape[:3] == (3, 3, 1):
        return _conv_of_taps(x, kernel)
    return _fastest(x.shape[1:3], kernel.shape).operation(x, kernel)


def _image_gradient_on_cpu(g: Array, kernel: Array, *, sides: tuple[int, int]) -> Array:
    return _fastest(sides, kernel.shape).image_gradient(g, kernel, sides=sides)


def _kernel_gradient_on_cpu(x: Array, g: Array, *, size: int) -> Array:
    sides, channels = x.shape[1:3], (x.shape[3], g.shape[3])
    faces = _fastest(sides, (size, size, *channels))
    if faces is _TILED and max(sides) <= _FEW_PIXELS and max(channels) <= _FEW_CHANNELS:
        faces = _ORDINARY
    return faces.kernel_gradient(x, g, size=size)


def _conv_mean(x: Array, kernel: Array) -> Array:
    """The mean of the kernel at its four places behind a window, as one kernel at every other pixel."""
    means = jnp.stack(_window_kernels(kernel)).mean(0)
    padding = [(len(kernel) // 2,) * 2] * 2
    return lax.conv_general_dilated(x, means, (2, 2), padding, dimension_numbers=NHWC)


def _conv_mean_of_patches(x: Array, kernel: Array) -> Array:
    """The kernel itself at every other pixel, on the means of four pixels."""
    pad = len(kernel) // 2
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows = padded[:, :-1] + padded[:, 1:]
    means = lax.optimization_barrier((rows[:, :, :-1] + rows[:, :, 1:]) / 4)  # else each patch computes its own
    patches, matrix = _patches(means, len(kernel)), kernel.reshape(-1, kernel.shape[3])
    return jnp.dot(patches.reshape(-1, len(matrix)), matrix).reshape(*patches.shape[:3], kernel.shape[3])


def _conv_windows(x: Array, kernel: Array) -> Array:
    (batch, height, width), features = (x.shape[0], x.shape[1] // 2, x.shape[2] // 2), kernel.shape[3]
    y = convolve(x, kernel)[:, : 2 * height, : 2 * width]
    windows = y.reshape(batch, height, 2, width, 2, features).transpose(0, 1, 3, 2, 4, 5)
    return windows.reshape(batch, height, 4 * width, features)


def _conv_windows_of_patches(x: Array, kernel: Array) -> Array:
    features, patches = kernel.shape[3], _window_patches(x, len(kernel) + 1)
    matrix = jnp.stack(_window_kernels(kernel), 3).reshape(-1, 4 * features)
    batch, height, width = patches.shape[:3]
    return jnp.dot(patches.reshape(-1, len(matrix)), matrix).reshape(batch, height, 4 * width, features)


def _window_patches(x: Array, size: int) -> Array:
    """The zero-padded pixels behind each 2x2 window of outputs: [B, H // 2, W // 2, size, size, C_in]."""
    pad = (size - 1) // 2
    return _patches(jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0))), size)


def _patches(x: Array, size: int) -> Array:
    """The squares of pixels that begin at every other one: [B, H', W', size, size, C]."""
    height, width = (2 * ((side - size) // 2 + 1) for side in x.shape[1:3])
    corners = [[x[:, i : i + height : 2, j : j + width : 2] for j in range(size)] for i in range(size)]
    return lax.optimization_barrier(jnp.stack([jnp.stack(row, 3) for row in corners], 3))


def _window_kernels(kernel: Array) -> list[Array]:
    """The kernel at each of its four places in a patch: [K + 1, K + 1, C_in, C_out] each."""
    return [jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in range(2) for j in range(2)]


conv = bilinear(
    "convolution",
    on_cpu=Faces(_conv_on_cpu, _image_gradient_on_cpu, _kernel_gradient_on_cpu),
    elsewhere=faces_of(convolve),
)
"""Convolves as `convolve` does."""

conv_mean = bilinear("mean_convolution", on_cpu=faces_of(_conv_mean_of_patches), elsewhere=faces_of(_conv_mean))
"""The mean of each 2x2 window of `conv`, for a kernel [K, K, C_in, C_out], K odd: [B, H // 2, W // 2, C_out].

On a CPU with K^2 products an output, elsewhere with (K + 1)^2 in one operation.
"""

conv_windows = bilinear(
    "windowed_convolution", on_cpu=faces_of(_conv_windows_of_patches), elsewhere=faces_of(_conv_windows)
)
"""Convolves as `convolve` does, with the outputs of each 2x2 window side by side: [B, H // 2, W // 2 * 4, C_out].

On a CPU they come from the patch of pixels behind the window.
"""
