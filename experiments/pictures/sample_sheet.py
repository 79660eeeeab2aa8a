"""Draws the README's picture of the synthetic garments: `python -m experiments.pictures.sample_sheet OUT.png`."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from matplotlib.figure import Figure

from experiments.script import run_script
from fmnist_jax import CLASS_NAMES, DataConfig, labelled_rows, load


@dataclass(frozen=True)
class Arguments:
    """Draws the README's picture of the synthetic garments."""

    out: tyro.conf.Positional[Path]
    """The PNG to write."""


def draw_sample_sheet(columns: int = 14) -> Figure:
    """Draws a row of garments for each class."""
    config = DataConfig(name="synthetic", synthetic_train_size=20 * len(CLASS_NAMES), validation_size=0)
    train = load(config).train
    return labelled_rows({name: train.images[train.labels == i][:columns] for i, name in enumerate(CLASS_NAMES)})


if __name__ == "__main__":
    run_script(lambda arguments: draw_sample_sheet().savefig(arguments.out, dpi=100, bbox_inches="tight"), Arguments)
