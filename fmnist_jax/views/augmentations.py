"""What each augmentation makes of the same images, a row for each: for pictures that explain them."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from fmnist_jax.functional.augment import (
    chain,
    make_cutout,
    make_random_crop,
    make_random_erasing,
    make_random_rotation,
    mirror_alternately,
    normalize,
    random_flip,
)
from fmnist_jax.functional.mixing import Mix, make_cutmix, make_mixup
from fmnist_jax.functional.photo_like import make_photo_like


def augmentation_rows(key: Array, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Varies the same images by each technique.

    Args:
      key: of all that is random; each technique gets the same.
      images: u8[N, H, W, C].
      labels: i32[N].

    Returns:
      u8[N, H, W, C] by the name of the technique, the images as they are first.
    """
    batch, classes = jnp.asarray(images), jnp.asarray(labels)
    places, even = jnp.arange(len(images)), jnp.zeros(len(images), jnp.int32)

    def mixed(mix: Mix) -> Array:
        return jnp.round(255 * mix(key, normalize(batch), classes)[0]).astype(jnp.uint8)

    several = chain(random_flip, make_random_crop(2), make_random_rotation(15.0), make_random_erasing(0.5))
    rows = {
        "as they are": batch,
        "mirrored at random": random_flip(key, batch),
        "alternating, even epochs": mirror_alternately(key, batch, places, even),
        "alternating, odd epochs": mirror_alternately(key, batch, places, even + 1),
        "shifted by up to 4 pixels": make_random_crop(4)(key, batch),
        "turned by up to 15 degrees": make_random_rotation(15.0)(key, batch),
        "like photos": make_photo_like(1.0)(key, batch),
        "random erasing": make_random_erasing(1.0)(key, batch),
        "cutout of 12 pixels": make_cutout(12)(key, batch),
        "mixup": mixed(make_mixup(1.0)),
        "CutMix": mixed(make_cutmix(1.0)),
        "several in turn": several(key, batch),
    }
    return {name: np.asarray(varied) for name, varied in rows.items()}
