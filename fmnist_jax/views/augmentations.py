"""The same images under each augmentation, one row per technique, for pictures that explain them."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fmnist_jax.functional.augment import (
    Augment,
    chain,
    identity,
    make_cutout,
    make_random_crop,
    make_random_erasing,
    make_random_rotation,
    mirror_alternately,
    random_flip,
)
from fmnist_jax.functional.mixing import Mix, make_cutmix, make_mixup
from fmnist_jax.functional.photo_like import make_photo_like
from fmnist_jax.functional.pixels import normalize
from fmnist_jax.system.compilation import FOR_ONE_CALL


def augmentation_rows(key: Array, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Applies each technique to the same images.

    Args:
      key: for all randomness; each technique gets the same key.
      images: u8[N, H, W, C].
      labels: i32[N].

    Returns:
      u8[N, H, W, C] by the name of the technique, the unchanged images first.
    """
    classes = jnp.asarray(labels)
    indices, even_epochs = jnp.arange(len(images)), jnp.zeros(len(images), jnp.int32)

    def mixed(mix: Mix) -> Augment:
        return lambda key, images: jnp.round(255 * mix(key, normalize(images), classes)[0]).astype(jnp.uint8)

    techniques: dict[str, Augment] = {
        "original": identity,
        "mirrored at random": random_flip,
        "alternating, even epochs": lambda key, images: mirror_alternately(key, images, indices, even_epochs),
        "alternating, odd epochs": lambda key, images: mirror_alternately(key, images, indices, even_epochs + 1),
        "shifted by up to 4 pixels": make_random_crop(4),
        "turned by up to 15 degrees": make_random_rotation(15.0),
        "like photos": make_photo_like(1.0),
        "random erasing": make_random_erasing(1.0),
        "cutout of 12 pixels": make_cutout(12),
        "mixup": mixed(make_mixup(1.0)),
        "CutMix": mixed(make_cutmix(1.0)),
        "several combined": chain(
            random_flip, make_random_crop(2), make_random_rotation(15.0), make_random_erasing(0.5)
        ),
    }

    def apply_all(key: Array, images: Array) -> list[Array]:
        return [technique(key, images) for technique in techniques.values()]

    rows = jax.jit(apply_all, compiler_options=dict(FOR_ONE_CALL))(key, images)
    return {name: np.asarray(row) for name, row in zip(techniques, rows, strict=True)}
