"""How well classes are told apart, as functions of NumPy arrays; NaN stands for scores without any examples."""

from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

Z_95 = 1.959963984540054
"""95 % of the standard normal distribution lie between minus this and plus this."""


class Interval(NamedTuple):
    """A range of values, both ends included."""

    low: float
    high: float


class ClassScores(NamedTuple):
    """Scores of each class, f64[C] but for the support."""

    precision: np.ndarray
    """Share of the predictions of a class that were correct; NaN if it was never predicted."""
    recall: np.ndarray
    """Share of the examples of a class that were recognised; NaN if it has none."""
    f1: np.ndarray
    """Harmonic mean of the two; NaN if the class neither occurred nor was predicted."""
    support: np.ndarray
    """i64[C]: examples of the class."""


class Confusion(NamedTuple):
    """How often one class was mistaken for another."""

    true: int
    predicted: int
    examples: int
    share: float
    """Of the examples of the true class."""


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Counts examples by true class (row) and predicted class (column), i64[classes, classes].

    Args:
      labels: i[N], in [0, classes).
      predictions: i[N], likewise.
      classes: how many there are.
    """
    cells = np.asarray(labels, np.int64) * classes + predictions
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Computes -log softmax(logits)[label] in nats, f64[N], for logits f[N, C] and labels i[N]."""
    return -log_softmax(np.asarray(logits, np.float64), axis=-1)[np.arange(len(labels)), labels]


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Computes the share of examples whose class is among the k most probable; NaN without examples.

    Of equally probable classes the first counts as more probable, as with `argmax`; an example with a NaN among its
    logits counts as wrong.

    Args:
      logits: f[N, C], or anything that increases with the probabilities.
      labels: i[N].
      k: in [1, C].

    Examples:
      >>> logits = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
      >>> fj.top_k_accuracy(logits, np.array([1, 0]), 2)
      0.5
    """
    if not len(labels):
        return float("nan")
    true_logits = np.take_along_axis(np.asarray(logits), np.asarray(labels)[:, None], axis=1)
    earlier = np.arange(np.shape(logits)[1]) < np.asarray(labels)[:, None]
    rank = ((logits > true_logits) | ((logits == true_logits) & earlier)).sum(1)
    return float(np.mean((rank < k) & ~np.isnan(logits).any(1)))


def most_probable(probabilities: np.ndarray, count: int = 3) -> list[int]:
    """The labels of the most probable of C classes, most probable first; among equals, the lower label first.

    Args:
      probabilities: f[C] of one example.
      count: how many labels, or all C if there are fewer.
    """
    return [int(label) for label in np.argsort(-probabilities, kind="stable")[:count]]


def wilson_interval(right: int, examples: int, z: float = Z_95) -> Interval:
    """Computes the score interval of a share (Wilson 1927), which is valid at 0 % and 100 % too; NaN without examples.

    Args:
      right: how many of the examples were classified correctly.
      examples: how many there are.
      z: half width in standard deviations; the default makes it a 95 % interval.

    Examples:
      >>> low, high = fj.wilson_interval(9_400, 10_000)
      >>> print(f"{low:.4f} to {high:.4f}")
      0.9352 to 0.9445
    """
    if not examples:
        return Interval(float("nan"), float("nan"))
    share, weight = right / examples, z * z / examples
    centre = (share + weight / 2) / (1 + weight)
    half_width = z / (1 + weight) * np.sqrt(share * (1 - share) / examples + weight / (4 * examples))
    # At 0 % and 100 % a bound equals the share but for rounding, which must not move it past the share.
    return Interval(float(max(0.0, min(centre - half_width, share))), float(min(1.0, max(centre + half_width, share))))


def class_scores(confusion: np.ndarray) -> ClassScores:
    """Computes precision, recall, F1 and support of each class from a confusion matrix i[C, C]."""
    right, support, predicted = np.diagonal(confusion), confusion.sum(1), confusion.sum(0)
    return ClassScores(
        precision=_ratio(right, predicted),
        recall=_ratio(right, support),
        f1=_ratio(2 * right, support + predicted),
        support=support,
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def most_confused(confusion: np.ndarray, count: int) -> list[Confusion]:
    """Lists the most frequent confusions of a true class with another, at most `count` of them.

    Pairs that were never confused are left out; of equal counts, the larger share of its true class comes first.

    Args:
      confusion: i[C, C], true class by row, predicted class by column.
      count: the most pairs to list.

    Examples:
      >>> [pair] = fj.most_confused(np.array([[8, 2], [0, 5]]), count=10)
      >>> pair.true, pair.predicted, pair.examples, pair.share
      (0, 1, 2, 0.2)
    """
    support = confusion.sum(1)
    rows, columns = np.nonzero(confusion * ~np.eye(len(confusion), dtype=bool))
    pairs = [
        Confusion(int(row), int(column), int(confusion[row, column]), float(confusion[row, column] / support[row]))
        for row, column in zip(rows, columns, strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.examples, -pair.share, pair.true, pair.predicted))[:count]


def most_confidently_wrong(probabilities: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Finds the wrong predictions of the highest probability, most confident first.

    Args:
      probabilities: f[N, C].
      labels: i[N].
      count: the most predictions to return.

    Returns:
      Indices i64[<= count].
    """
    wrong = np.flatnonzero(probabilities.argmax(-1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(-1), kind="stable")][:count]
