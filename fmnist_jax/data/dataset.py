"""Data sets as NumPy arrays: loading, splitting, describing."""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from fmnist_jax.config.schema import DataConfig
from fmnist_jax.config.validation import validate_data
from fmnist_jax.data import decoded, files, places, synthetic
from fmnist_jax.data.array_checks import check_shapes, to_arrays, to_class_names
from fmnist_jax.data.copies import count_shared
from fmnist_jax.errors import DataError
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.functional.pixels import histogram_mean_std, pixel_histogram
from fmnist_jax.system import output


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class Dataset:
    """Images with their labels."""

    images: np.ndarray
    """u8[N, H, W, C], where H and W are at least 8 and C is 1 (grey) or 3 (colour); may be memory-mapped. Grey images
    may be given as u8[N, H, W], and all as anything that NumPy converts to an array, such as a JAX array."""
    labels: np.ndarray
    """i32[N], in [0, number of class names); may be given as any integer type, or as a list of integers."""
    class_names: tuple[str, ...] = CLASS_NAMES

    def __post_init__(self) -> None:
        """Checks shapes, dtypes, labels and names.

        Raises:
          DataError: one of them is invalid.
        """
        images, labels = to_arrays(self.images, self.labels)
        check_shapes(images, labels)
        names = to_class_names(self.class_names)
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
            label = labels.min() if labels.min() < 0 else labels.max()
            raise DataError(f"labels hold {label}: expected 0..{len(names) - 1}; check the labels, or the class names")
        object.__setattr__(self, "images", images if images.ndim == 4 else images[..., None])
        object.__setattr__(self, "labels", labels.astype(np.int32, copy=False))
        object.__setattr__(self, "class_names", names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @property
    def num_classes(self) -> int:
        """The number of classes, including those without examples."""
        return len(self.class_names)

    def __len__(self) -> int:
        """Counts the examples."""
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Dataset":
        """Selects examples by indices i[M] or by a mask bool[N]."""
        return Dataset(self.images[indices], self.labels[indices], self.class_names)


class Splits(NamedTuple):
    """Disjoint data sets; `validation` is taken from the published training images and may be empty."""

    train: Dataset
    validation: Dataset
    test: Dataset


class Statistics(NamedTuple):
    """Statistics of the pixels, scaled to [0, 1], and of the labels."""

    mean: float
    std: float
    class_counts: np.ndarray
    """i64[C]."""


def evenly_spaced(count: int, limit: int) -> np.ndarray:
    """Chooses examples evenly spaced over a data set, which may be sorted by class.

    Args:
      count: number of examples.
      limit: how many to choose, at most.

    Returns:
      i64[min(count, limit)], ascending.
    """
    return np.arange(min(count, limit)) * count // max(min(count, limit), 1)


def load(config: DataConfig) -> Splits:
    """Loads a data set by name and splits it.

    Raises:
      DataError: the data are missing, damaged or unavailable; the message says what to do.
      ConfigError: a value is invalid.
    """
    validate_data(config)
    if config.name == "own":
        raise DataError(
            "--data.name is own: its images were passed in Python and are not available here: pass them there, with "
            "fmnist_jax.run(config, splits), or as splits=... to fmnist_jax.commands.evaluation.run, "
            "reporting.run, comparison.run or exporting.run"
        )
    if config.name == "synthetic":
        train = Dataset(*synthetic.draw(config.synthetic_train_size, config.seed))
        # A different stream from that of the training images, which use the seed itself.
        test = Dataset(*synthetic.draw(config.synthetic_test_size, (config.seed + 2**31) % 2**32))
    elif config.name == "fashion_mnist":
        arrays = decoded.load(places.data_dir(config), places.raw_dir(config))
        train = Dataset(arrays["train_images"], arrays["train_labels"])
        test = Dataset(arrays["test_images"], arrays["test_labels"])
    else:
        train, test = _load_files(files.read(config))
        config = replace(config, total=len(train))
        validate_data(config)
    return Splits(*split(train, config.validation_size, config.seed), test)


def _load_files(contents: files.Contents) -> tuple[Dataset, Dataset]:
    """The training and test images of users' own files, with a warning if the two share any."""
    train = _named_dataset("training", contents.train_images, contents.train_labels, contents)
    test = _named_dataset("test", contents.test_images, contents.test_labels, contents)
    check_splits(Splits(train, train.take(np.array([], np.int64)), test), contents.path)
    if shared := count_shared(test.images, train.images):
        output.warn(
            f"warning: {shared:,} of the {len(test):,} test images of {contents.path} are also training images, byte "
            f"for byte, so the test accuracy is too optimistic"
        )
    return train, test


def _named_dataset(part: str, images: np.ndarray, labels: np.ndarray, contents: files.Contents) -> Dataset:
    try:
        return Dataset(images, labels, contents.class_names)
    except DataError as error:
        raise DataError(f"{contents.path}: {part} data: {error}") from error


def check_splits(splits: Splits, source: object = "splits") -> None:
    """Checks that there are training and test images, and that all splits share one image shape and class names.

    Raises:
      DataError: a check fails; the message begins with `source`.
    """
    for name in ("train", "test"):
        if not len(getattr(splits, name)):
            raise DataError(f"{source}: there are no {name} images: give at least one")
    for name, part in splits._asdict().items():
        if difference := _difference(name, part, splits.train):
            raise DataError(f"{source}: {difference}")


def _difference(name: str, part: Dataset, train: Dataset) -> str | None:
    """What keeps a split from being used beside the training images, and the remedy."""
    if (part.image_shape, part.num_classes) != (train.image_shape, train.num_classes):
        return (
            f"{name} images are {_shape_and_classes(part)}, and training images {_shape_and_classes(train)}: "
            "give all of them the same shape and class names"
        )
    for label, (given, expected) in enumerate(zip(part.class_names, train.class_names, strict=True)):
        if given != expected:
            return (
                f"class {label} of the {name} images is {given!r}, and of the training images {expected!r}: "
                "give all of them the same class names in the same order"
            )
    return None


def _shape_and_classes(dataset: Dataset) -> str:
    return f"{'x'.join(map(str, dataset.image_shape))} of {dataset.num_classes} classes"


def split(dataset: Dataset, validation_size: int, seed: int) -> tuple[Dataset, Dataset]:
    """Holds out a class-balanced validation set, chosen by the seed.

    Each class that has images gives an equal share of `validation_size`; if that is not whole, the first give one more.

    Returns:
      The remaining training images, in their order, and the validation images.

    Raises:
      DataError: a class has too few images, or the size is negative.
    """
    if not validation_size:
        return dataset, dataset.take(np.array([], np.int64))
    if validation_size < 0 or not len(dataset):
        raise DataError(
            f"--data.validation-size is {validation_size}, of {len(dataset)} images: choose 0, or fewer than there are"
        )
    rng = np.random.RandomState(seed)  # frozen for ever by NEP 19, so a split outlives NumPy versions
    present = np.unique(dataset.labels)
    held_out = []
    for index, label in enumerate(present):
        members = rng.permutation(np.flatnonzero(dataset.labels == label))
        share = validation_size // len(present) + (index < validation_size % len(present))
        if share and share >= len(members):
            raise DataError(
                f"--data.validation-size {validation_size} takes {share} images of class {label}, which has "
                f"{len(members)}, and leaves none for training: choose a smaller one"
            )
        held_out.append(members[:share])
    validation = np.sort(np.concatenate(held_out))
    return dataset.take(np.setdiff1d(np.arange(len(dataset)), validation)), dataset.take(validation)


def statistics(dataset: Dataset) -> Statistics:
    """Computes the mean and standard deviation of all pixels, NaN without images, and counts each class."""
    counts = np.bincount(dataset.labels, minlength=len(dataset.class_names))
    if not len(dataset):
        return Statistics(math.nan, math.nan, counts)
    mean, std = histogram_mean_std(pixel_histogram(dataset.images))
    return Statistics(mean / 255, std / 255, counts)


def digest(splits: Splits) -> str:
    """SHA-256 over every image and label of every split, in order, as hex."""
    sha = hashlib.sha256()
    for dataset in splits:
        sha.update(np.ascontiguousarray(dataset.images).data)
        sha.update(np.ascontiguousarray(dataset.labels).data)
    return sha.hexdigest()
