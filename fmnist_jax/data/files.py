"""Users' own data sets in files: their arrays, and the names of their classes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fmnist_jax.config.schema import DataConfig
from fmnist_jax.data import idx, npz
from fmnist_jax.errors import DataError

_MOST_CLASSES = 1_000  # training keeps a confusion matrix for every step between log lines


class Contents(NamedTuple):
    """What the files of a data set hold, unchecked except for what the class names need."""

    place: Path
    """The file, or the folder of the files."""
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    """As the file gives them, else "0", "1" and so on up to the highest label."""


def read(config: DataConfig) -> Contents:
    """Reads the files that a configuration names.

    Raises:
      DataError: they are missing or damaged, or hold unusable labels or class names.
    """
    place = config.raw_dir if config.name == "idx" else config.file
    if place is None:
        raise DataError(f"--data.name is {config.name}, but no file is given for it: use --data.raw-dir or --data.file")
    arrays = idx.load(place) if config.name == "idx" else npz.load(place)
    names = arrays.pop("class_names", None)
    labels = [array for name, array in arrays.items() if name.endswith("_labels")]
    found = _numbered(labels, place) if names is None else _given(names, place)
    return Contents(place, class_names=found, **arrays)


def _given(names: np.ndarray, place: Path) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(f"{place}: class_names are {names.dtype}{list(names.shape)}: expected one row of text")
    if len(names) > _MOST_CLASSES:
        raise DataError(f"{place}: there are {len(names):,} class_names: expected at most {_MOST_CLASSES:,}")
    return tuple(map(str, names))


def _numbered(labels: list[np.ndarray], place: Path) -> tuple[str, ...]:
    """A name for each class up to the highest label; invalid labels are left for `Dataset` to refuse."""
    numbers = [array for array in labels if array.size and np.issubdtype(array.dtype, np.integer)]
    highest = max((int(array.max()) for array in numbers), default=0)
    if highest >= _MOST_CLASSES:
        raise DataError(f"{place}: labels reach {highest}: number the classes from 0, below {_MOST_CLASSES}")
    return tuple(map(str, range(highest + 1)))
