"""Draws the README's picture of the augmentations: `python experiments/augmentation_sheet.py OUT.png`."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from fmnist_jax import (
    DataConfig,
    Mix,
    chain,
    labelled_rows,
    load,
    make_cutmix,
    make_cutout,
    make_mixup,
    make_random_crop,
    make_random_erasing,
    make_random_rotation,
    mirror_alternately,
    normalize,
    random_flip,
)

COLUMNS = 9


def augmentation_sheet() -> Figure:
    """Draws the same garments as each technique varies them, a row for each."""
    train = load(DataConfig(name="synthetic", synthetic_train_size=200, validation_size=0)).train
    images, labels = jnp.asarray(train.images[:COLUMNS]), jnp.asarray(train.labels[:COLUMNS])
    key, places, even = jax.random.key(1), jnp.arange(COLUMNS), jnp.zeros(COLUMNS, jnp.int32)

    def mixed(mix: Mix) -> Array:
        return jnp.round(255 * mix(key, normalize(images), labels)[0]).astype(jnp.uint8)

    several = chain(random_flip, make_random_crop(2), make_random_rotation(15.0), make_random_erasing(0.5))
    rows = {
        "as they are": images,
        "mirrored at random": random_flip(key, images),
        "alternating, even epochs": mirror_alternately(key, images, places, even),
        "alternating, odd epochs": mirror_alternately(key, images, places, even + 1),
        "shifted by up to 4 pixels": make_random_crop(4)(key, images),
        "turned by up to 15 degrees": make_random_rotation(15.0)(key, images),
        "random erasing": make_random_erasing(1.0)(key, images),
        "cutout of 12 pixels": make_cutout(12)(key, images),
        "mixup": mixed(make_mixup(1.0)),
        "CutMix": mixed(make_cutmix(1.0)),
        "several in turn": several(key, images),
    }
    return labelled_rows({name: np.asarray(varied) for name, varied in rows.items()})


if __name__ == "__main__":
    augmentation_sheet().savefig(sys.argv[1], dpi=100, bbox_inches="tight")
