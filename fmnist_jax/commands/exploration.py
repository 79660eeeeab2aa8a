"""Exploration of a data set: prints tables; writes numbers and pictures."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from fmnist_jax.analysis.census import Copies, SplitSummary, class_averages, find_copies, summarize_split
from fmnist_jax.commands import cli
from fmnist_jax.config.schema import DataConfig
from fmnist_jax.data.dataset import Dataset, digest, evenly_spaced, load
from fmnist_jax.system.storage import directory_for_files, write_figure, write_text
from fmnist_jax.views.augmentations import augmentation_rows
from fmnist_jax.views.images import average_images, labelled_rows, sample_grid
from fmnist_jax.views.tables import dataset_tables

_MAX_AUGMENTED = 9  # images side by side


def run(config: DataConfig, out: Path) -> None:
    """Explores a data set as `explore.run` describes."""
    splits = load(config)
    names = splits.train.class_names
    found = {name: summarize_split(split.images, split.labels, len(names)) for name, split in splits._asdict().items()}
    summaries = {name: summary for name, summary in found.items() if summary is not None}
    copies = find_copies({name: (split.images, split.labels) for name, split in splits._asdict().items() if len(split)})
    record = describe(config, summaries, copies, names, digest(splits))
    with directory_for_files(out):
        write_text(out / "exploration.json", json.dumps(record, indent=2, allow_nan=False) + "\n")
        for name, figure in _figures(splits.train):
            write_figure(out / f"{name}.png", figure)
    cli.print_rich(dataset_tables(summaries, copies, names))
    cli.print_result(f"written: {out}/exploration.json, samples.png, averages.png, augmentations.png")


def describe(
    config: DataConfig,
    summaries: Mapping[str, SplitSummary],
    copies: Mapping[str, Copies],
    class_names: tuple[str, ...],
    digest: str,
) -> dict[str, Any]:
    """Converts the findings to JSON-compatible values."""
    splits = {
        name: {**summary._asdict(), "class_counts": dict(zip(class_names, summary.class_counts, strict=True))}
        for name, summary in summaries.items()
    }
    return {
        "name": config.name,
        "digest": digest,
        "splits": splits,
        "copies": {name: counts._asdict() for name, counts in copies.items()},
    }


def _figures(train: Dataset) -> Iterator[tuple[str, Figure]]:
    """Yields a name and a figure for each picture."""
    names = train.class_names
    yield "samples", sample_grid(train.images, train.labels, names)
    averages = class_averages(train.images, train.labels, len(names))
    yield "averages", average_images(averages, names, np.bincount(train.labels, minlength=len(names)))
    few = evenly_spaced(len(train), _MAX_AUGMENTED)
    yield (
        "augmentations",
        labelled_rows(augmentation_rows(jax.random.key(1), np.asarray(train.images[few]), train.labels[few])),
    )
