"""Users' own data sets in files: their arrays, and the names of their classes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fmnist_jax.config.schema import DataConfig
from fmnist_jax.data import idx, npz
from fmnist_jax.errors import DataError

_MAX_CLASSES = 1_000  # training keeps a confusion matrix for every step between log lines


class Contents(NamedTuple):
    """What the files of a data set hold, unchecked except for what the class names need."""

    path: Path
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
    path = config.raw_dir if config.name == "idx" else config.file
    if path is None:
        raise DataError(f"--data.name is {config.name}, but no file is given for it: use --data.raw-dir or --data.file")
    arrays = idx.load(path) if config.name == "idx" else npz.load(path)
    names = arrays.pop("class_names", None)
    labels = [array for name, array in arrays.items() if name.endswith("_labels")]
    class_names = _default_names(labels, path) if names is None else _check_names(names, path)
    return Contents(path, class_names=class_names, **arrays)


def _check_names(names: np.ndarray, path: Path) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(f"{path}: class_names are {names.dtype}{list(names.shape)}: expected one row of text")
    if len(names) > _MAX_CLASSES:
        raise DataError(f"{path}: there are {len(names):,} class_names: expected at most {_MAX_CLASSES:,}")
    return tuple(map(str, names))


def _default_names(labels: list[np.ndarray], path: Path) -> tuple[str, ...]:
    """A name for each class up to the highest label; invalid labels are left for `Dataset` to refuse."""
    numbers = [array for array in labels if array.size and np.issubdtype(array.dtype, np.integer)]
    highest = max((int(array.max()) for array in numbers), default=0)
    if highest >= _MAX_CLASSES:
        raise DataError(f"{path}: labels reach {highest}: number the classes from 0, below {_MAX_CLASSES}")
    return tuple(map(str, range(highest + 1)))
