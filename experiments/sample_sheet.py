"""Draws the README's picture of the synthetic garments: `python experiments/sample_sheet.py OUT.png`."""

import sys

import numpy as np
from matplotlib.figure import Figure

from fmnist_jax import CLASS_NAMES, DataConfig, load


def sample_sheet(columns: int = 14) -> Figure:
    """Draws a row of garments for each class."""
    config = DataConfig(name="synthetic", synthetic_train_size=20 * len(CLASS_NAMES), validation_size=0)
    train = load(config).train
    figure = Figure(figsize=(9.6, 6.2), layout="constrained")
    rows = figure.subplots(len(CLASS_NAMES), 1)
    for label, (axes, name) in enumerate(zip(rows, CLASS_NAMES, strict=True)):
        images = train.images[train.labels == label][:columns, :, :, 0]
        axes.imshow(255 - np.concatenate(list(images), axis=1), cmap="gray", vmin=0, vmax=255)
        axes.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    return figure


if __name__ == "__main__":
    sample_sheet().savefig(sys.argv[1], dpi=100, bbox_inches="tight")
