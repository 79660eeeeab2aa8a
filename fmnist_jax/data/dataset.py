"""Data sets as NumPy arrays: loading, splitting, and batches for the host's side of training."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fmnist_jax.config.schema import DataConfig
from fmnist_jax.config.validation import validate_data
from fmnist_jax.data import decoded, places, synthetic
from fmnist_jax.errors import DataError
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.functional.metrics import PADDING_LABEL
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.sampling import batch_indices


@dataclass(frozen=True)
class Dataset:
    """Images with their labels."""

    images: np.ndarray
    """u8[N, 28, 28, 1]; may be memory-mapped."""
    labels: np.ndarray
    """i32[N]."""
    class_names: tuple[str, ...] = CLASS_NAMES

    def __post_init__(self) -> None:
        """Checks shapes, dtypes and labels.

        Raises:
          DataError: they are not those of Fashion-MNIST images.
        """
        count = len(self.labels)
        if self.images.shape != (count, 28, 28, 1) or self.images.dtype != np.uint8:
            raise DataError(
                f"images are {self.images.dtype}{list(self.images.shape)}: expected uint8[{count}, 28, 28, 1]"
            )
        if self.labels.shape != (count,) or self.labels.dtype != np.int32:
            raise DataError(f"labels are {self.labels.dtype}{list(self.labels.shape)}: expected int32[{count}]")
        if count and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            outside = self.labels.min() if self.labels.min() < 0 else self.labels.max()
            raise DataError(f"a label is {outside}: expected 0..{len(self.class_names) - 1}; check the label file")

    def __len__(self) -> int:
        """Counts the examples."""
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Dataset":
        """Selects examples."""
        return Dataset(self.images[indices], self.labels[indices], self.class_names)


class Splits(NamedTuple):
    """Disjoint data sets; `validation` comes out of the published training images and may be empty."""

    train: Dataset
    validation: Dataset
    test: Dataset


class Statistics(NamedTuple):
    """Of the pixels, scaled to [0, 1], and of the labels."""

    mean: float
    std: float
    class_counts: np.ndarray
    """i64[10]."""


def load(config: DataConfig) -> Splits:
    """Loads a data set by name and splits it.

    Raises:
      DataError: the data are missing, damaged or not to be had; the message says what to do.
      ConfigError: a value is impossible.
    """
    validate_data(config)
    if config.name == "synthetic":
        train = Dataset(*synthetic.draw(config.synthetic_train_size, config.seed))
        # Another stream than the training images', which take the seed itself.
        test = Dataset(*synthetic.draw(config.synthetic_test_size, (config.seed + 2**31) % 2**32))
    else:
        arrays = decoded.load(places.data_dir(config), places.raw_dir(config))
        train = Dataset(arrays["train_images"], arrays["train_labels"])
        test = Dataset(arrays["test_images"], arrays["test_labels"])
    return Splits(*split(train, config.validation_size, config.seed), test)


def split(dataset: Dataset, validation_size: int, seed: int) -> tuple[Dataset, Dataset]:
    """Holds out a class-balanced validation set, chosen by the seed.

    Each class gives `validation_size / 10` images, the first classes one more if that is not whole.

    Returns:
      The remaining training images, in their order, and the validation images.

    Raises:
      DataError: a class has too few images.
    """
    if not validation_size:
        return dataset, dataset.take(np.array([], np.int64))
    rng = np.random.RandomState(seed)  # frozen for ever by NEP 19, so a split outlives NumPy versions
    classes = len(dataset.class_names)
    held_out = []
    for label in range(classes):
        members = rng.permutation(np.flatnonzero(dataset.labels == label))
        share = validation_size // classes + (label < validation_size % classes)
        if share > len(members):
            raise DataError(
                f"--data.validation-size {validation_size} takes {share} images of class {label}, which has "
                f"{len(members)}: choose a smaller one"
            )
        held_out.append(members[:share])
    validation = np.sort(np.concatenate(held_out))
    return dataset.take(np.setdiff1d(np.arange(len(dataset)), validation)), dataset.take(validation)


def statistics(dataset: Dataset) -> Statistics:
    """Computes the mean and standard deviation of all pixels, and counts each class."""
    histogram = np.bincount(dataset.images.ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = np.average(levels, weights=histogram)
    variance = np.average((levels - mean) ** 2, weights=histogram)
    counts = np.bincount(dataset.labels, minlength=len(dataset.class_names))
    return Statistics(float(mean), float(np.sqrt(variance)), counts)


def digest(splits: Splits) -> str:
    """SHA-256 over every image and label of every split, in order, as hex."""
    sha = hashlib.sha256()
    for dataset in splits:
        sha.update(np.ascontiguousarray(dataset.images).data)
        sha.update(np.ascontiguousarray(dataset.labels).data)
    return sha.hexdigest()


def batches(dataset: Dataset, key: Array, batch_size: int, start_step: int = 0) -> Iterator[Batch]:
    """Yields shuffled training batches without end, the same ones that `train_step.sample_batch` gathers.

    Args:
      dataset: N examples.
      key: determines the order; `TrainState.key` for the order of a training run.
      batch_size: B.
      start_step: the first batch to yield, reached at once.
    """
    indices_of = jax.jit(partial(batch_indices, batch_size=batch_size, n=len(dataset)))
    # A copy, because `key` is often that of a state which the caller's step is given to overwrite.
    own_key = jax.random.wrap_key_data(jnp.copy(jax.random.key_data(key)), impl=jax.random.key_impl(key))

    def batch(step: int) -> Batch:
        indices = np.asarray(indices_of(own_key, step))
        return Batch(dataset.images[indices], dataset.labels[indices])

    return map(batch, count(start_step))


def padded_batches(dataset: Dataset, batch_size: int) -> Iterator[Batch]:
    """Yields every example once, in order; the last batch is filled up with rows labelled `PADDING_LABEL`."""
    for start in range(0, len(dataset), batch_size):
        images = dataset.images[start : start + batch_size]
        labels = dataset.labels[start : start + batch_size]
        missing = batch_size - len(labels)
        yield Batch(
            np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))),
            np.pad(labels, (0, missing), constant_values=PADDING_LABEL),
        )
