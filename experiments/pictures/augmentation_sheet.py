"""Draws the README's picture of the augmentations: `python -m experiments.pictures.augmentation_sheet OUT.png`."""

import sys

import jax
from matplotlib.figure import Figure

from fmnist_jax import DataConfig, augmentation_rows, labelled_rows, load

COLUMNS = 9


def augmentation_sheet() -> Figure:
    """Draws the same garments as each technique varies them, a row for each."""
    train = load(DataConfig(name="synthetic", synthetic_train_size=200, validation_size=0)).train
    return labelled_rows(augmentation_rows(jax.random.key(1), train.images[:COLUMNS], train.labels[:COLUMNS]))


if __name__ == "__main__":
    augmentation_sheet().savefig(sys.argv[1], dpi=100, bbox_inches="tight")
