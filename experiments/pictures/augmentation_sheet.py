"""Draws the README's picture of the augmentations: `python -m experiments.pictures.augmentation_sheet OUT.png`."""

from dataclasses import dataclass
from pathlib import Path

import jax
import tyro
from matplotlib.figure import Figure

from experiments.script import run_script
from fmnist_jax import DataConfig, augmentation_rows, labelled_rows, load

COLUMNS = 9


@dataclass(frozen=True)
class Arguments:
    """Draws the README's picture of the augmentations."""

    out: tyro.conf.Positional[Path]
    """The PNG to write."""


def draw_augmentation_sheet() -> Figure:
    """Draws the same garments under each augmentation technique, one row per technique."""
    train = load(DataConfig(name="synthetic", synthetic_train_size=200, validation_size=0)).train
    return labelled_rows(augmentation_rows(jax.random.key(1), train.images[:COLUMNS], train.labels[:COLUMNS]))


def main(arguments: Arguments) -> None:
    """Draws and writes it."""
    draw_augmentation_sheet().savefig(arguments.out, dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    run_script(main, Arguments)
