"""Convolution of small images as matrix products alone: fewer multiplications, and no other fast kernel needed.

A 3x3 convolution is a product of polynomials in two variables. Toom and Cook evaluate the factors at a few points,
multiply there, and interpolate; Winograd 1980 showed that this takes the fewest multiplications, and Lavin & Gray
2016 (arXiv:1509.09308) brought it to networks: a tile of 4x4 outputs costs 36 multiplications for each pair of
channels instead of 144. The transforms to and from the points are linear in the pixels. For an image of a few tiles
each fits into one matrix, so everything is matrix products, including derivatives of any order and kind.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from fmnist_jax.functional.pixels import check_inexact
from fmnist_jax.functional.precision import at_least_float32
from fmnist_jax.functional.sharding import with_auto_axes

KERNEL_SIZE = 3  # pixels on a side
_TILE = 4  # outputs on a side, if the image has as many
_FINITE_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0)  # those of Lavin & Gray, who add infinity


class _Transforms(NamedTuple):
    """Linear maps between pixels and points, in float64."""

    images: np.ndarray
    """[points, tiles, pixels]."""
    kernels: np.ndarray
    """[points, taps]."""
    outputs: np.ndarray
    """[pixels, points, tiles]."""


def _powers(points: int, count: int) -> np.ndarray:
    """The first powers of each point, of which only the highest counts at infinity: [points, count]."""
    finite = np.vander(_FINITE_POINTS[: points - 1], count, increasing=True)
    return np.vstack([finite, np.eye(count)[-1]])


def _transforms_of_axis(size: int) -> _Transforms:
    """The transforms along one axis of the image, with a zero pixel beyond each end."""
    tile_size = min(size, _TILE)
    points, tiles = tile_size + KERNEL_SIZE - 1, -(-size // tile_size)
    # Interpolation, transposed: it turns the correlation into products at the points (the Toom-Cook identity
    # sum_p outputs[i, p] kernels[p, k] images[p, j] = 1 where j = i + k, else 0).
    interpolate, evaluate = np.linalg.inv(_powers(points, points)).T, _powers(points, tile_size)
    images, outputs = np.zeros((points, tiles, size + points)), np.zeros((size + tile_size, points, tiles))
    for tile in range(tiles):
        start = tile * tile_size
        images[:, tile, start : start + points] = interpolate
        outputs[start : start + tile_size, :, tile] = evaluate.T
    return _Transforms(images[..., 1 : size + 1], _powers(points, KERNEL_SIZE), outputs[:size])


@functools.cache
def _transforms(height: int, width: int) -> _Transforms:
    """The transforms of whole images: those along each axis, multiplied out."""
    rows, columns = _transforms_of_axis(height), _transforms_of_axis(width)
    points, pixels = len(rows.images) * len(columns.images), height * width
    return _Transforms(
        np.einsum("pth,quw->pqtuhw", rows.images, columns.images).reshape(points, -1, pixels),
        np.einsum("pi,qj->pqij", rows.kernels, columns.kernels).reshape(points, KERNEL_SIZE**2),
        np.einsum("hpt,wqu->hwpqtu", rows.outputs, columns.outputs).reshape(pixels, points, -1),
    )


def winograd_conv(x: Array, kernel: Array) -> Array:
    """Convolves small images with stride 1 and zero padding that keeps the spatial size.

    On a CPU, agrees with direct summation to about 1e-5 of the largest value in float32. The transforms cost `H W`
    multiplications per tile, point and channel, so this pays off up to about 8x8 pixels and from 64 channels on.

    Args:
      x: [B, H, W, C_in]; computed in at least float32.
      kernel: [3, 3, C_in, C_out].

    Returns:
      [B, H, W, C_out], in the dtype of `x`.

    Raises:
      ValueError: the images or the kernel have another shape, or are integers, which the transforms would round, or
        their dtypes differ.
    """
    check_inexact(images=x, kernel=kernel)
    if x.ndim != 4 or kernel.ndim != 4 or kernel.shape[:3] != (KERNEL_SIZE, KERNEL_SIZE, x.shape[3]):
        raise ValueError(
            f"images {list(x.shape)} and a kernel {list(kernel.shape)}: expected [B, H, W, C_in] and "
            f"[{KERNEL_SIZE}, {KERNEL_SIZE}, C_in, C_out]"
        )
    if x.dtype != kernel.dtype:
        raise ValueError(f"images are {x.dtype} and the kernel is {kernel.dtype}: expected the same")
    if not x.shape[1] * x.shape[2]:
        return jnp.zeros((*x.shape[:3], kernel.shape[3]), x.dtype)
    return with_auto_axes(convolve, rows=True)(x, kernel)


def convolve(x: Array, kernel: Array) -> Array:
    """Computes `winograd_conv` for shapes that are right, where no mesh has explicit axes."""
    batch, height, width, channels = x.shape
    features, dtype = kernel.shape[3], at_least_float32(x.dtype)
    images, kernels, outputs = (jnp.asarray(transform, dtype) for transform in _transforms(height, width))
    points, tiles, pixels = images.shape
    # Pixels first, so that a transform is one matrix product and its result is already grouped by point.
    columns = x.astype(dtype).transpose(1, 2, 0, 3).reshape(pixels, batch * channels)
    values = jnp.dot(images.reshape(-1, pixels), columns).reshape(points, tiles * batch, channels)
    weights = jnp.dot(kernels, kernel.astype(dtype).reshape(KERNEL_SIZE**2, -1)).reshape(points, channels, features)
    products = jnp.einsum("pnc,pco->pno", values, weights)
    y = jnp.dot(outputs.reshape(pixels, -1), products.reshape(points * tiles, batch * features))
    return y.reshape(height, width, batch, features).transpose(2, 0, 1, 3).astype(x.dtype)
