"""Convolution of larger images in tiles of 2x2 outputs: 16 products a tile and pair of channels instead of 36.

A CPU computes gradients so before jax 0.12; `convolution` has the measurements.

This is F(2x2, 3x3) of Lavin & Gray 2016 (arXiv:1509.09308, section 4.1), whose transforms of images and outputs only
add and subtract. They are loops over channels, row by row and then column by column. Tiles of 4x4 save more products,
but lose more in their transforms: at 14x14x64 they took twice as long.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, export, lax

from fmnist_jax.functional.precision import at_least_float32

_TILE = 2  # outputs on a side
_CHUNK = 8  # images at a time: 128 images of 14x14x64 at once took half as long again

# A row of each makes one value of those along an axis: a point of the pixels of a tile, of the taps of a kernel, and an
# output of the points.
_IMAGES = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_KERNELS = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_OUTPUTS = ((1, 1, 1, 0), (0, 1, -1, -1))
_GRADIENTS = tuple(zip(*_OUTPUTS, strict=True))

Signs = Sequence[Sequence[int]]
Grid = list[list[Array]]
"""Arrays by row and by column: of a tile, or of its points."""


def conv(x: Array, kernel: Array) -> Array:
    """Convolves with stride 1 and zero padding that keeps the spatial size, in float32 at least.

    Args:
      x: [B, H, W, C_in].
      kernel: [3, 3, C_in, C_out].

    Returns:
      [B, H, W, C_out], in the dtype of `x`.
    """
    wide, taps = _widened(x), _taps(x)
    weights = jnp.einsum("pi,ijco,qj->pqco", taps, _widened(kernel), taps)

    def of_chunk(x: Array) -> Array:
        points = _points(x)
        products = [[jnp.dot(values, weights[p, q]) for q, values in enumerate(row)] for p, row in enumerate(points)]
        tiles = _transformed(_OUTPUTS, products)
        y = jnp.stack([jnp.stack(row, 3) for row in tiles], 2)
        batch, rows, _, columns, _, features = y.shape
        whole = y.reshape(batch, rows * _TILE, columns * _TILE, features)
        return whole[:, : x.shape[1], : x.shape[2]]

    if export.is_symbolic_dim(x.shape[0]):  # of a program for batches of any size, which cannot be cut
        return of_chunk(wide).astype(x.dtype)
    chunks, rest = _chunks(wide)
    y = lax.map(of_chunk, chunks).reshape(-1, *x.shape[1:3], kernel.shape[3])
    return (jnp.concatenate([y, of_chunk(rest)]) if len(rest) else y).astype(x.dtype)


def kernel_gradient(x: Array, g: Array, *, size: int) -> Array:
    """The gradient [3, 3, C_in, C_out] of the kernel, summed over images and tiles at the points."""
    del size  # 3, as the transforms know
    taps = _taps(x)

    def of_chunk(x: Array, g: Array) -> Array:
        points, cotangents = _points(x), _transformed(_GRADIENTS, _tiles(g, 0, _TILE))
        return jnp.stack(
            [
                jnp.stack([_summed(*both) for both in zip(*rows, strict=True)])
                for rows in zip(points, cotangents, strict=True)
            ]
        )

    (x_chunks, x_rest), (g_chunks, g_rest) = _chunks(_widened(x)), _chunks(_widened(g))
    products = of_chunk(x_rest, g_rest)
    products, _ = lax.scan(lambda total, both: (total + of_chunk(*both), None), products, (x_chunks, g_chunks))
    return jnp.einsum("pi,pqco,qj->ijco", taps, products, taps).astype(x.dtype)


def _widened(x: Array) -> Array:
    return x.astype(at_least_float32(x.dtype))


def _taps(x: Array) -> Array:
    return jnp.asarray(_KERNELS, _widened(x).dtype)


def _chunks(x: Array) -> tuple[Array, Array]:
    """The images in chunks [N, _CHUNK, H, W, C], and those that are left [R, H, W, C]."""
    whole = len(x) // _CHUNK * _CHUNK
    return x[:whole].reshape(-1, _CHUNK, *x.shape[1:]), x[whole:]


def _points(x: Array) -> Grid:
    """The values of images at the points of each tile: [B, rows of tiles, columns of tiles, C] each."""
    return _transformed(_IMAGES, _tiles(x, 1, len(_IMAGES)))


def _tiles(x: Array, border: int, size: int) -> Grid:
    """The pixels of tiles by their place in it, `size` on a side, zero beyond the image."""
    rows, columns = (-(-side // _TILE) for side in x.shape[1:3])
    padding = [
        (border, border + tiles * _TILE - side) for tiles, side in zip((rows, columns), x.shape[1:3], strict=True)
    ]
    # The barrier has the zeros written once: else every value asks anew whether it lies in the image.
    padded = lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0))))
    return [
        [padded[:, i : i + rows * _TILE : _TILE][:, :, j : j + columns * _TILE : _TILE] for j in range(size)]
        for i in range(size)
    ]


def _transformed(signs: Signs, values: Grid) -> Grid:
    """The values along both axes of a grid, each replaced by sums with such signs."""
    by_rows = [[_sum(row, column) for column in zip(*values, strict=True)] for row in signs]
    return [[_sum(row, along) for row in signs] for along in by_rows]


def _sum(signs: Sequence[int], values: Sequence[Array]) -> Array:
    first, *others = [(sign, value) for sign, value in zip(signs, values, strict=True) if sign]
    total = first[1] if first[0] > 0 else -first[1]
    for sign, value in others:
        total = total + value if sign > 0 else total - value
    return total


def _summed(x: Array, g: Array) -> Array:
    """The products of each pair of channels, summed over images and tiles: [C_in, C_out]."""
    return lax.dot_general(x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1]), (((0,), (0,)), ((), ())))
