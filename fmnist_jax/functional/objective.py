"""The training objective, as a pure function of the parameters: to be differentiated, line-searched or replaced."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fmnist_jax.functional.augment import Augment, identity
from fmnist_jax.functional.interface import BatchStats, Model, Params
from fmnist_jax.functional.metrics import LossFn, MetricsFn, batch_metrics, cross_entropy
from fmnist_jax.functional.mixing import Mix, unmixed
from fmnist_jax.functional.pixels import is_uint8, normalize
from fmnist_jax.functional.sharding import batch_axes, with_auto_axes
from fmnist_jax.functional.state import TrainState


class Batch(NamedTuple):
    """Images with their labels."""

    images: Array | np.ndarray
    """u8[B, H, W, C] in [0, 255], or floats that are in [0, 1] already."""
    labels: Any
    """i32[B], or f32[B, K] with the weight of each class, or any pytree of arrays [B, ...] that the loss takes."""


class Aux(NamedTuple):
    """What an objective returns besides its value."""

    batch_stats: BatchStats
    metrics: Any
    """Sums over the batch, a pytree: what `metrics_fn` returns."""


Objective = Callable[[Params, TrainState, Batch], tuple[Array, Aux]]
"""`(params, state, batch) -> (loss f32[], Aux)`, differentiable in `params`; the parameters in `state` are ignored."""


def make_objective(
    model: Model,
    *,
    loss_fn: LossFn = cross_entropy,
    augment: Augment = identity,
    mix: Mix = unmixed,
    metrics_fn: MetricsFn = batch_metrics,
) -> Objective:
    """Makes the mean loss of a training batch.

    It is pure: its randomness comes from `state.key` and `state.step` alone, so the same step on the same batch has the
    same augmentations and dropped units however often it is evaluated, as by a line search or Hessian-vector product.

    Args:
      model: the network.
      loss_fn: `(logits f32[B, K], targets) -> f32[B]`; the targets are the labels that `mix` returns, any pytree.
      augment: `(key, images) -> images`, applied to the images as given, usually u8[B, H, W, C], and keeping their
        dtype; `on_floats` adapts an augmentation of floats.
      mix: `(key, f32[B, H, W, C] in [0, 1], labels) -> (images, labels)`, on the normalised images.
      metrics_fn: `(logits, targets, losses f32[B]) -> pytree of sums`; no gradient flows through it.

    Returns:
      `objective(params, state, batch) -> (loss f32[], Aux(batch_stats, metrics))`. Every row counts: use padded
      batches for evaluation only.

    Raises (the objective, while it is traced):
      ValueError: `augment` turns bytes into floats, or images, labels or losses are not as described.
    """
    augment_rows = with_auto_axes(partial(_augment_and_normalize, augment), rows=True, like=1)
    # Partners may lie on any device.
    mix_rows = with_auto_axes(mix, rows=True, like=1)

    def objective(params: Params, state: TrainState, batch: Batch) -> tuple[Array, Aux]:
        step_key = jax.random.fold_in(state.key, state.step)
        augment_key, dropout_key, mix_key = jax.random.split(step_key, 3)
        images, labels = jax.tree.map(jnp.asarray, batch)
        images, targets = mix_rows(mix_key, augment_rows(augment_key, images), labels)
        logits, batch_stats = model.apply(params, state.batch_stats, images, train=True, key=dropout_key)
        losses = loss_fn(logits, targets)
        metrics = metrics_fn(*lax.stop_gradient((logits, targets, losses)))
        # Under `shard_map` the batch is that of all shards together, so its mean and sums are taken over all of them.
        shards = batch_axes(batch, params)
        return lax.pmean(losses.mean(), shards), Aux(batch_stats, lax.psum(metrics, shards))

    return objective


def _augment_and_normalize(augment: Augment, key: Array, images: Array) -> Array:
    """The images, augmented and then scaled to floats in [0, 1]."""
    augmented = augment(key, images)
    if is_uint8(images) and augmented.dtype != images.dtype:
        raise ValueError(
            f"augment turned uint8 into {augmented.dtype} of unknown range: expected uint8; wrap an "
            "augmentation of floats in [0, 1] in fmnist_jax.on_floats"
        )
    return normalize(augmented)
