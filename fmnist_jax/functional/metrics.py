"""Losses per example, and metrics as sums that add up across batches and devices."""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fmnist_jax.functional.labels import PADDING_LABEL, smoothed, soft_labels
from fmnist_jax.functional.precision import at_least_float32
from fmnist_jax.functional.sharding import with_auto_axes

Sums = TypeVar("Sums")
"""A pytree of arrays that add up across batches."""

LossFn = Callable[[Array, Any], Array]
"""`(logits f32[B, C], targets) -> f32[B]`; the targets are i32[B], f32[B, C], or any pytree that the loss takes."""

MetricsFn = Callable[[Array, Any, Array], Any]
"""`(logits f32[B, C], targets, losses f32[B]) -> sums`, a pytree of arrays that add up across batches."""


class Metrics(NamedTuple):
    """Sums over examples, exact up to 2**31 examples per cell. `total` adds them up; `+` would concatenate tuples."""

    loss_sum: Array | np.ndarray
    """f32[]: sum of the losses."""
    confusion: Array | np.ndarray
    """i32[C, C]: examples by true class (row) and predicted class (column)."""


class Summary(NamedTuple):
    """The means that `summarize` computes from `Metrics`, and the number of examples."""

    loss: float
    accuracy: float
    examples: int


def check_labels(labels: Array | np.ndarray, batch: Sequence[int], num_classes: int | None = None) -> None:
    """Checks that labels are whole numbers [*batch], or floating weights [*batch, num_classes].

    NumPy labels, whose values can be read at no cost, must also be in range.

    Args:
      labels: one class per example, or weights of all classes.
      batch: the shape of the logits without their last axis.
      num_classes: C, if known.

    Raises:
      ValueError: they are not; for example, they are one-hot rows of integers, or a column [B, 1].
    """
    if not hasattr(labels, "dtype"):
        raise ValueError(
            f"labels are a {type(labels).__name__}: expected an array; for other labels, pass your own loss_fn and "
            "metrics_fn"
        )
    is_integer = jnp.issubdtype(labels.dtype, jnp.integer)
    classes = labels.shape[-1:] if num_classes is None else (num_classes,)
    expected_shape = tuple(batch) if is_integer else (*batch, *classes)
    if labels.shape != expected_shape or not (is_integer or jnp.issubdtype(labels.dtype, jnp.floating)):
        raise ValueError(
            f"labels are {labels.dtype}{list(labels.shape)}: expected integers {list(batch)} or floating weights "
            f"{[*batch, num_classes or 'C']}; convert one-hot rows to weights with .astype(jnp.float32)"
        )
    if is_integer and num_classes is not None and isinstance(labels, np.ndarray):
        outside = labels[(labels < PADDING_LABEL) | (labels >= num_classes)]
        if outside.size:
            raise ValueError(
                f"a label is {outside[0]}: expected 0..{num_classes - 1}, or {PADDING_LABEL} for padding; "
                "check the labels, or give the model enough classes"
            )


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Computes -log softmax(logits)[label] in nats, the weighted mean for soft labels; 0 for padding.

    A label out of range in a JAX array, whose values are not checked because they may be traced, has a loss of NaN.

    Args:
      logits: f32[B, C]; -inf for a class that cannot be.
      labels: i32[B], in [0, C) or `PADDING_LABEL`; or the weights f32[B, C] of the classes, all zero for padding.

    Returns:
      f32[B], or f64[B] for logits in f64.

    Raises:
      ValueError: the labels have another shape or dtype, or are NumPy's and out of range; training and evaluation steps
        convert them to JAX arrays first.

    Examples:
      >>> print(fj.cross_entropy(jnp.zeros((2, 10)), jnp.array([3, fj.PADDING_LABEL])).round(4))
      [2.3026 0.    ]
    """
    return make_cross_entropy(0.0)(logits, labels)


def make_cross_entropy(label_smoothing: float) -> LossFn:
    """Makes the cross-entropy with labels smoothed as in Szegedy et al. 2016 (arXiv:1512.00567, section 7).

    Args:
      label_smoothing: the share of each label's weight, in [0, 1], that is spread evenly over all classes.

    Returns:
      `loss_fn(logits f32[B, C], labels) -> f32[B]`, with labels and errors as for `cross_entropy`.
    """

    def loss_fn(logits: Array, labels: Array) -> Array:
        check_labels(labels, logits.shape[:-1], logits.shape[-1])
        compute_dtype = at_least_float32(logits.dtype)
        weights = soft_labels(labels, logits.shape[-1]).astype(compute_dtype)
        targets = smoothed(weights, label_smoothing, logits.shape[-1])
        log_probabilities = jax.nn.log_softmax(logits.astype(compute_dtype))
        impossible = (targets == 0) & jnp.isneginf(log_probabilities)  # and as expected, though 0 times -inf is NaN
        losses = -jnp.where(impossible, 0.0, targets * log_probabilities).sum(-1)
        return jnp.where(_is_labelled(weights), losses, 0.0)

    return loss_fn


def batch_metrics(logits: Array, labels: Array, losses: Array) -> Metrics:
    """Sums up one batch; padding is ignored, and a soft label counts as its heaviest class.

    A label out of range counts for no class, but its loss, NaN by `cross_entropy`, is part of the sum. Logits that hold
    NaN count as a prediction of the first class that has it, as by NumPy's `argmax`.

    Args:
      logits: f32[B, C].
      labels: as for `cross_entropy`.
      losses: f32[B]; or f32[], which stands for the loss of every example, as a mean does.

    Raises:
      ValueError: the losses have another shape, or the labels are refused as by `cross_entropy`.
    """
    classes = logits.shape[-1]
    check_labels(labels, logits.shape[:-1], classes)
    if losses.shape not in ((), logits.shape[:-1]):
        raise ValueError(f"losses have shape {list(losses.shape)}: expected {list(logits.shape[:-1])}, one per example")
    weights = soft_labels(labels, classes)
    heaviest = jnp.where((weights > 0).any(-1), weights.argmax(-1), PADDING_LABEL)
    true = jax.nn.one_hot(heaviest, classes, dtype=jnp.int32)
    predicted = jax.nn.one_hot(logits.argmax(-1), classes, dtype=jnp.int32)
    confusion = with_auto_axes(_count_pairs, rows=False)(true, predicted)
    counted = jnp.where(_is_labelled(weights), losses, 0.0)
    return Metrics(counted.sum().astype(jnp.float32), confusion)


def _count_pairs(true: Array, predicted: Array) -> Array:
    """Counts the pairs of classes i32[C, C] in one-hot rows i32[..., C]."""
    classes = true.shape[-1]
    return true.reshape(-1, classes).T @ predicted.reshape(-1, classes)


def _is_labelled(weights: Array) -> Array:
    """Marks the rows bool[B] of `soft_labels` that have a label, even one out of range, but not padding."""
    return weights.any(-1)


def add(left: Sums, right: Sums) -> Sums:
    """Adds the sums of two batches, `Metrics` or any other pytree."""
    return jax.tree.map(jnp.add, left, right)


def total(many: Iterable[Sums]) -> Sums:
    """Adds the sums of one or more batches; raises a TypeError if there are none."""
    return reduce(add, many)


def summarize(metrics: Metrics) -> Summary:
    """Computes mean loss in nats and accuracy from the sums over all examples; NaN if there are none.

    Metrics with a leading axis, such as the steps of a chunk or the members of a population, are for
    `summarize_members`; `jax.tree.map(lambda rows: rows.sum(0), metrics)` adds them up.

    Raises:
      ValueError: the metrics have such an axis.

    Examples:
      >>> fj.summarize(fj.Metrics(loss_sum=np.float32(2.0), confusion=np.array([[2, 1], [0, 1]])))
      Summary(loss=0.5, accuracy=0.75, examples=4)
    """
    confusion = np.asarray(metrics.confusion)
    if confusion.ndim != 2:
        raise ValueError(
            f"the confusion matrix has shape {list(confusion.shape)}: expected two axes; sum over the first, or use "
            "summarize_members"
        )
    examples = int(confusion.sum())
    if not examples:
        return Summary(float("nan"), float("nan"), 0)
    return Summary(float(metrics.loss_sum) / examples, float(np.trace(confusion)) / examples, examples)


def summarize_members(metrics: Metrics) -> list[Summary]:
    """Summarises each member of metrics with a leading axis of members, or the one of metrics without it.

    Raises:
      ValueError: the metrics have more axes, such as one of members and one of steps.
    """
    confusions = np.asarray(metrics.confusion)
    if confusions.ndim not in (2, 3):
        raise ValueError(
            f"confusion matrices have shape {list(confusions.shape)}: expected two or three axes; sum over the others"
        )
    classes, losses = confusions.shape[-1], np.atleast_1d(np.asarray(metrics.loss_sum))
    return [
        summarize(Metrics(loss, confusion))
        for loss, confusion in zip(losses, confusions.reshape(-1, classes, classes), strict=True)
    ]
