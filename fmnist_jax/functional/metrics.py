"""Losses per example, and metrics as sums that add up across batches and devices."""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from fmnist_jax.functional.labels import smoothed, soft_labels
from fmnist_jax.functional.sharding import automatic

LossFn = Callable[[Array, Any], Array]
"""`(logits f32[B, C], targets) -> f32[B]`; the targets are i32[B], f32[B, C], or any pytree that the loss takes."""

MetricsFn = Callable[[Array, Any, Array], Any]
"""`(logits f32[B, C], targets, losses f32[B]) -> sums`, a pytree of arrays that add up across batches."""

PADDING_LABEL = -1
"""Label of the rows that fill up a last batch: they count nowhere."""


class Metrics(NamedTuple):
    """Sums over examples; `+` by `add`, exact for up to 2**31 examples a cell."""

    loss_sum: Array | np.ndarray
    """f32[]: sum of the losses."""
    confusion: Array | np.ndarray
    """i32[C, C]: examples by true class (row) and predicted class (column)."""


class Summary(NamedTuple):
    """What `Metrics` say of the examples."""

    loss: float
    accuracy: float
    examples: int


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Computes -log softmax(logits)[label] in nats, of soft labels the weighted mean; 0 for padding.

    Args:
      logits: f32[B, C].
      labels: i32[B], in [0, C) or `PADDING_LABEL`; or the weights f32[B, C] of the classes, all zero for padding.

    Returns:
      f32[B].
    """
    return make_cross_entropy(0.0)(logits, labels)


def make_cross_entropy(label_smoothing: float) -> LossFn:
    """Makes the cross-entropy with labels smoothed as in Szegedy et al. 2016 (arXiv:1512.00567, section 7)."""

    def loss_fn(logits: Array, labels: Array) -> Array:
        targets = smoothed(labels, label_smoothing, logits.shape[-1])
        losses = optax.softmax_cross_entropy(logits, targets)
        return jnp.where(_counted(labels, logits.shape[-1]), losses, 0.0)

    return loss_fn


def batch_metrics(logits: Array, labels: Array, losses: Array) -> Metrics:
    """Sums up one batch; padding counts nowhere, and a soft label counts as its heaviest class.

    Args:
      logits: f32[B, C].
      labels: as for `cross_entropy`.
      losses: f32[B].
    """
    classes = logits.shape[-1]
    counted = _counted(labels, classes)
    heaviest = soft_labels(labels, classes).argmax(-1)
    true = jax.nn.one_hot(jnp.where(counted, heaviest, PADDING_LABEL), classes, dtype=jnp.int32)
    predicted = jax.nn.one_hot(logits.argmax(-1), classes, dtype=jnp.int32)
    confusion = automatic(lambda true, predicted: true.T @ predicted, rows=False)(true, predicted)
    return Metrics(jnp.where(counted, losses, 0.0).sum(), confusion)


def _counted(labels: Array, classes: int) -> Array:
    """Tells the rows bool[B] that have a label from padding, in which no class has any weight."""
    return soft_labels(labels, classes).any(-1)


def add(left: Metrics, right: Metrics) -> Metrics:
    """Adds the sums."""
    return jax.tree.map(jnp.add, left, right)


def total(many: Iterable[Metrics]) -> Metrics:
    """Adds the sums of one or more batches; raises a TypeError if there are none, whose classes none can know."""
    return reduce(add, many)


def summarize(metrics: Metrics) -> Summary:
    """Divides the sums: mean loss in nats and accuracy over all examples, NaN if there are none."""
    confusion = np.asarray(metrics.confusion)
    examples = int(confusion.sum())
    if not examples:
        return Summary(float("nan"), float("nan"), 0)
    return Summary(float(metrics.loss_sum) / examples, float(np.trace(confusion)) / examples, examples)


def recall_per_class(confusion: Array | np.ndarray) -> Array:
    """Computes the share of each true class that was recognised, f32[C]; NaN for a class without examples."""
    return jnp.diagonal(confusion) / confusion.sum(-1)
