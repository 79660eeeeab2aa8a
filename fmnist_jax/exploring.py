"""An exploration of a data set: tables on the screen; numbers and pictures in files."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from fmnist_jax import data, data_figures, figures, image_figures
from fmnist_jax.augmentation_examples import augmentation_rows
from fmnist_jax.config import DataConfig
from fmnist_jax.exploration import Copies, Summary, class_averages, find_copies, summarize
from fmnist_jax.storage import make_directory, write_figure, write_text

_AUGMENTED = 9  # images side by side


def run(config: DataConfig, out: Path) -> None:
    """Explores a data set as `explore.run` says."""
    splits = data.load(config)
    names = splits.train.class_names
    found = {name: summarize(split.images, split.labels, len(names)) for name, split in splits._asdict().items()}
    summaries = {name: summary for name, summary in found.items() if summary is not None}
    copies = find_copies({name: (split.images, split.labels) for name, split in splits._asdict().items() if len(split)})
    make_directory(out)
    described = describe(config, summaries, copies, names, data.digest(splits))
    write_text(out / "exploration.json", json.dumps(described, indent=2, allow_nan=False) + "\n")
    for name, figure in _figures(splits.train):
        write_figure(out / f"{name}.png", figure)
    print_tables(summaries, copies, names)
    print(f"written: {out}/exploration.json, samples.png, averages.png, augmentations.png")


def describe(
    config: DataConfig,
    summaries: Mapping[str, Summary],
    copies: Mapping[str, Copies],
    class_names: tuple[str, ...],
    digest: str,
) -> dict[str, Any]:
    """Puts what was found into values that JSON can hold."""
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


def print_tables(summaries: Mapping[str, Summary], copies: Mapping[str, Copies], class_names: tuple[str, ...]) -> None:
    """Prints sizes and ranges, class counts and exact copies."""
    console = Console(highlight=False)
    for table in (_sizes(summaries), _classes(summaries, class_names), _copies(copies)):
        console.print(table)


def _sizes(summaries: Mapping[str, Summary]) -> Table:
    table = Table("split")
    for column in ("images", "shape", "type", "values", "mean", "deviation"):
        table.add_column(column, justify="right")
    for name, summary in summaries.items():
        shape, values = "x".join(map(str, summary.shape)), f"{summary.lowest}..{summary.highest}"
        moments = (f"{summary.mean:.2f} ({summary.mean / 255:.4f})", f"{summary.std:.2f} ({summary.std / 255:.4f})")
        table.add_row(name, f"{summary.size:,}", shape, summary.dtype, values, *moments)
    table.caption = "in parentheses: of pixels scaled to 0..1"
    return table


def _classes(summaries: Mapping[str, Summary], class_names: tuple[str, ...]) -> Table:
    table = Table("label", "class")
    for name in summaries:
        table.add_column(name, justify="right")
    for label, name in enumerate(class_names):
        table.add_row(str(label), name, *(f"{summary.class_counts[label]:,}" for summary in summaries.values()))
    return table


def _copies(copies: Mapping[str, Copies]) -> Table:
    table = Table("exact copies")
    for column in ("images", "distinct", "labels disagree"):
        table.add_column(column, justify="right")
    for name, counts in copies.items():
        place = name.replace(" in ", ", also in ") if " in " in name else f"within {name}"
        table.add_row(place, *(f"{count:,}" for count in counts))
    return table


def _figures(train: data.Dataset) -> Iterator[tuple[str, Figure]]:
    """Yields a name and a figure for each picture."""
    names = train.class_names
    yield "samples", image_figures.sample_grid(train.images, train.labels, names)
    averages = class_averages(train.images, train.labels, len(names))
    yield "averages", data_figures.average_images(averages, names, np.bincount(train.labels, minlength=len(names)))
    few = slice(_AUGMENTED)
    yield (
        "augmentations",
        figures.labelled_rows(augmentation_rows(jax.random.key(1), np.asarray(train.images[few]), train.labels[few])),
    )
