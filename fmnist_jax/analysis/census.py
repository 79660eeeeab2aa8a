"""What a data set contains, as functions of arrays: ranges, class counts, averages, exact copies."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from fmnist_jax.functional.pixels import fingerprint, histogram_mean_std, pixel_histogram


class SplitSummary(NamedTuple):
    """One split in numbers."""

    size: int
    shape: tuple[int, ...]
    """Of one image."""
    dtype: str
    lowest: int
    highest: int
    mean: float
    """Of all pixels, in the units of the images."""
    std: float
    """Of all pixels about their mean, in the units of the images."""
    class_counts: tuple[int, ...]


class Copies(NamedTuple):
    """Images that are equal in every byte."""

    images: int
    """How many images have such a copy."""
    pictures: int
    """How many distinct images there are among these."""
    conflicting: int
    """How many of the distinct images have labels that disagree."""


def summarize_split(images: np.ndarray, labels: np.ndarray, num_classes: int) -> SplitSummary | None:
    """Describes a split; returns None for an empty one, which has no range.

    Args:
      images: u8[N, ...].
      labels: i[N] in 0..C-1.
      num_classes: C.
    """
    if not len(images):
        return None
    histogram = pixel_histogram(images)  # 256 counts, so that no sum of millions of pixels is rounded
    present = np.flatnonzero(histogram)
    mean, std = histogram_mean_std(histogram)
    return SplitSummary(
        size=len(images),
        shape=images.shape[1:],
        dtype=str(images.dtype),
        lowest=int(present[0]),
        highest=int(present[-1]),
        mean=mean,
        std=std,
        class_counts=tuple(map(int, np.bincount(labels, minlength=num_classes))),
    )


def class_averages(images: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Averages the images of each class, f64[C, ...]; zeros for a class without images."""
    averages = np.zeros((num_classes, *images.shape[1:]))
    for label in np.unique(labels):
        averages[label] = images[labels == label].mean(0, dtype=np.float64)
    return averages


def content_ids(splits: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Numbers images by content: two have the same number if their `fingerprint`s are equal.

    Args:
      splits: arrays u8[N, ...] of images of one shape.

    Returns:
      i64[N] for each split.
    """
    numbers: dict[bytes, int] = {}
    return [
        np.array([numbers.setdefault(fingerprint(image), len(numbers)) for image in images], np.int64)
        for images in splits
    ]


def copies_within(ids: np.ndarray, labels: np.ndarray) -> Copies:
    """Counts the images that occur more than once in a split.

    Args:
      ids: i64[N], from `content_ids`.
      labels: i[N].
    """
    pictures, counts = np.unique(ids, return_counts=True)
    repeated = pictures[counts > 1]
    return Copies(int(counts[counts > 1].sum()), len(repeated), _conflicting(ids, labels, repeated))


def copies_across(ids: np.ndarray, labels: np.ndarray, other_ids: np.ndarray, other_labels: np.ndarray) -> Copies:
    """Counts the images of one split that also occur in another; labels may disagree within a split or across them.

    Args:
      ids: i64[N], from `content_ids`.
      labels: i[N].
      other_ids: i64[M], from the same call.
      other_labels: i[M].
    """
    shared = np.intersect1d(ids, other_ids)
    all_ids, all_labels = np.concatenate([ids, other_ids]), np.concatenate([labels, other_labels])
    return Copies(int(np.isin(ids, shared).sum()), len(shared), _conflicting(all_ids, all_labels, shared))


def _conflicting(ids: np.ndarray, labels: np.ndarray, pictures: np.ndarray) -> int:
    """How many of the given pictures have more than one label."""
    pairs = np.unique(np.stack([ids, labels])[:, np.isin(ids, pictures)], axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())


def find_copies(splits: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Copies]:
    """Counts exact copies within each split, and the images of each split that also occur in each earlier one.

    Args:
      splits: images u8[N, ...] and labels i[N] by name.

    Returns:
      Counts, keyed by `name` or `name in other`.
    """
    labels = {name: split_labels for name, (_, split_labels) in splits.items()}
    ids = dict(zip(splits, content_ids([images for images, _ in splits.values()]), strict=True))
    within = {name: copies_within(ids[name], labels[name]) for name in splits}
    across = {
        f"{first} in {second}": copies_across(ids[first], labels[first], ids[second], labels[second])
        for first, second in combinations(reversed(list(splits)), 2)
    }
    return within | across
