"""Looking into a trained network, as pure functions of its weights and images."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fmnist_jax.functional.interface import BatchStats, Model, Params
from fmnist_jax.functional.pixels import normalize

Saliency = Callable[[Params, BatchStats, Array | np.ndarray], Array]


class Projection(NamedTuple):
    """Points in the plane of their first two principal components."""

    points: np.ndarray
    """f64[N, 2]."""
    shares: np.ndarray
    """f64[2]: share of the variance along each axis; NaN if the points do not vary."""


def make_saliency(model: Model) -> Saliency:
    """Makes `saliency(params, batch_stats, images u8[B, H, W, C]) -> f32[B, H, W]`.

    The magnitude of the gradient of an image's highest logit with respect to each pixel, in the channel where it is
    largest (Simonyan et al. 2014, arXiv:1312.6034): how sensitive the prediction is to small changes of the pixel.

    Raises (the function made, while it is traced):
      ValueError: the images are neither bytes nor floats.
    """

    def highest_logits(pixels: Array, params: Params, batch_stats: BatchStats) -> Array:
        logits, _ = model.apply(params, batch_stats, pixels, train=False)
        # An image's logits depend on that image alone, so the gradient of the sum is that of each.
        return logits.max(-1).sum()

    def saliency(params: Params, batch_stats: BatchStats, images: Array | np.ndarray) -> Array:
        pixels = normalize(jnp.asarray(images))
        return jnp.abs(jax.grad(highest_logits)(pixels, params, batch_stats)).max(-1)

    return saliency


def first_filters(params: Params) -> np.ndarray:
    """Takes the kernels of the first convolution from the parameters: f32[F, K, K], of C > 1 channels [F, K, K, C]."""
    kernels = np.moveaxis(np.asarray(params["Conv_0"]["kernel"]), -1, 0)
    return kernels[..., 0] if kernels.shape[-1] == 1 else kernels


_CHUNK_FEATURES = 1 << 12  # features at a time, so that no second array of all of them is made


def principal_plane(features: np.ndarray) -> Projection:
    """Projects points f[N, F] onto their two directions of largest variance (Pearson 1901), N >= 1.

    Of a direction and its opposite, which are equivalent, the one in which the farthest point lies is taken.
    """
    rows, columns = features.shape
    # Two columns and rows of zeros change no direction, and give even one point or feature a plane.
    if columns <= rows:
        vectors, singular_values, _ = np.linalg.svd(np.pad(_centred(features), ((0, 2), (0, 2))), full_matrices=False)
        variances = np.square(singular_values)
    else:
        chunks = (_centred(features[:, at : at + _CHUNK_FEATURES]) for at in range(0, columns, _CHUNK_FEATURES))
        gram = sum((piece @ piece.T for piece in chunks), np.zeros((rows, rows)))
        variances, vectors = np.linalg.eigh(np.pad(gram, (0, 2)))
        variances, vectors = np.maximum(variances[::-1], 0), vectors[:, ::-1]
    points = vectors[:rows, :2] * np.sqrt(variances[:2])
    farthest = points[np.abs(points).argmax(0), [0, 1]]
    total = variances.sum()
    shares = variances[:2] / total if total > 0 else np.full(2, np.nan)
    return Projection(np.where(farthest < 0, -points, points), shares)


def _centred(features: np.ndarray) -> np.ndarray:
    return features - features.mean(0, dtype=np.float64)
