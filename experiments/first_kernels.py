"""Kernels for the first layer in place of random ones, chosen for what they compute from patches of pixels."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fmnist_jax import BatchStats, Model, Params, normalize


def whitening_kernels(images: Array, side: int = 3) -> Array:
    """Makes kernels whose outputs over all patches are uncorrelated, with unit variance.

    They are the eigenvectors of the covariance of the patches' pixels, divided by the roots of their eigenvalues.

    Args:
      images: u8[N, H, W, C].
      side: of a patch, in pixels.

    Returns:
      f32[side, side, C, side * side * C], largest eigenvalue first, for images scaled by `normalize`.
    """
    channels = images.shape[-1]
    patches = lax.conv_general_dilated_patches(
        normalize(images), (side, side), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    pixels = patches.reshape(-1, channels * side * side).T
    variances, vectors = jnp.linalg.eigh(jnp.cov(pixels))
    # Patches have their channel axis first, kernels their last but one. Variances below a millionth of the largest are
    # rounding errors.
    deviations = jnp.sqrt(jnp.maximum(variances, 1e-6 * variances[-1]))
    kernels = (vectors.T / deviations[:, None])[::-1]
    return kernels.reshape(-1, channels, side, side).transpose(2, 3, 1, 0)


def cosine_kernels(side: int = 3) -> Array:
    """Makes the basis of the discrete cosine transform of patches, f32[side, side, 1, side * side], smoothest first.

    Its outputs are nearly uncorrelated for any images in which nearby pixels are similar (Ahmed, Natarajan & Rao
    1974).
    """
    basis = np.cos(np.pi / side * np.outer(np.arange(side) + 0.5, np.arange(side)))
    frequencies = sorted(np.ndindex(side, side), key=lambda pair: (sum(pair), pair))
    kernels = [np.outer(basis[:, row], basis[:, column]) for row, column in frequencies]
    return jnp.asarray(np.stack(kernels, -1)[:, :, None], jnp.float32)


def with_first_kernels(model: Model, kernels: Array) -> Model:
    """The same model, its first convolution initialised with the given kernels and their negatives.

    After a ReLU, a kernel and its negative together lose nothing. They are scaled to the size of the random kernels:
    the norm after them makes the scale irrelevant to the output, but not to the optimiser's steps. If the layer has
    more kernels, the rest stay random.
    """

    def init(key: Array) -> tuple[Params, BatchStats]:
        params, batch_stats = model.init(key)
        random_kernel = params["Conv_0"]["kernel"]
        pairs = jnp.stack([kernels, -kernels], -1).reshape(*kernels.shape[:-1], -1)[..., : random_kernel.shape[-1]]
        scaled = pairs * (jnp.std(random_kernel) / jnp.sqrt(jnp.mean(pairs**2, (0, 1, 2), keepdims=True)))
        first_layer = {**params["Conv_0"], "kernel": random_kernel.at[..., : scaled.shape[-1]].set(scaled)}
        return {**params, "Conv_0": first_layer}, batch_stats

    return Model(init, model.apply)
