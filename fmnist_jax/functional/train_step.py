"""One training step, and many of them in one compiled loop."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from fmnist_jax.functional.augment import Augment, identity, mirror_alternately, normalize
from fmnist_jax.functional.metrics import LossFn, Metrics, batch_metrics, cross_entropy
from fmnist_jax.functional.mixing import Mix, unmixed
from fmnist_jax.functional.model import BatchStats, Model, Params
from fmnist_jax.functional.sampling import batch_epochs, batch_indices
from fmnist_jax.functional.sharding import batch_axes
from fmnist_jax.functional.state import TrainState


class Batch(NamedTuple):
    """Images with their labels."""

    images: Array | np.ndarray
    """u8[B, 28, 28, 1]."""
    labels: Array | np.ndarray
    """i32[B], or f32[B, 10]: the weight of each class."""


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
TrainChunk = Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]
Sample = Callable[[Batch, Array, Array, int], Batch]
"""`(data, key, step, batch_size) -> batch`: the batch of a step out of a whole data set."""


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    *,
    loss_fn: LossFn = cross_entropy,
    augment: Augment = identity,
    mix: Mix = unmixed,
) -> TrainStep:
    """Makes one step of gradient descent on the mean loss of a batch.

    The step is pure and not compiled: jit, donate, map, scan or shard it as the program needs. Its
    randomness comes from `state.key` and `state.step` alone.

    Args:
      model: the network.
      optimizer: what turns gradients into updates.
      loss_fn: `(logits f32[B, 10], labels) -> f32[B]`; the labels are i32[B], or f32[B, 10] where `mix` makes them so.
      augment: `(key, u8[B, 28, 28, 1]) -> u8[B, 28, 28, 1]`.
      mix: `(key, f32[B, 28, 28, 1], labels) -> (f32[B, 28, 28, 1], labels)`, on the normalised images.

    Returns:
      `step(state, batch) -> (state, metrics)`, the metrics being those of the batch before the update. Every
      row counts: padded batches are for evaluation.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(state.key, state.step)
        augment_key, dropout_key, mix_key = jax.random.split(step_key, 3)
        images = normalize(augment(augment_key, jnp.asarray(batch.images)))
        images, labels = mix(mix_key, images, jnp.asarray(batch.labels))
        shards = batch_axes(batch, state.params)

        def mean_loss(params: Params) -> tuple[Array, tuple[Array, Array, BatchStats]]:
            logits, batch_stats = model.apply(params, state.batch_stats, images, train=True, key=dropout_key)
            losses = loss_fn(logits, labels)
            return jax.lax.pmean(losses.mean(), shards), (logits, losses, batch_stats)

        grads, (logits, losses, batch_stats) = jax.grad(mean_loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return state, jax.lax.psum(batch_metrics(logits, labels, losses), shards)

    return step


def sample_batch(data: Batch, key: Array, step: Array | int, batch_size: int) -> Batch:
    """Gathers the batch of `step` from a whole data set, in the order that `key` determines."""
    indices = batch_indices(key, step, batch_size, data.labels.shape[0])
    return Batch(data.images[indices], data.labels[indices])


def sample_mirrored_batch(data: Batch, key: Array, step: Array | int, batch_size: int) -> Batch:
    """As `sample_batch`, with the images mirrored in every other epoch by `mirror_alternately`."""
    n = data.labels.shape[0]
    indices, epochs = batch_indices(key, step, batch_size, n), batch_epochs(step, batch_size, n)
    return Batch(mirror_alternately(key, jnp.asarray(data.images[indices]), indices, epochs), data.labels[indices])


def make_train_chunk(
    step_fn: TrainStep, batch_size: int, max_steps: int, *, sample: Sample = sample_batch
) -> TrainChunk:
    """Makes many steps in one compiled loop over data that stay on the device.

    Args:
      step_fn: what `make_train_step` returns.
      batch_size: B.
      max_steps: the longest chunk, in steps.
      sample: gathers the batch of a step, by the root key of the state.

    Returns:
      `chunk(state, data, num_steps) -> (state, metrics)`, where `data` is the whole training set as one
      `Batch`, `num_steps` i32[] is at most `max_steps` (one executable serves them all), and each leaf of
      the metrics has a leading axis of `max_steps`, zero from `num_steps` on.
    """

    def chunk(state: TrainState, data: Batch, num_steps: Array) -> tuple[TrainState, Metrics]:
        def take_step(state: TrainState) -> tuple[TrainState, Metrics]:
            return step_fn(state, sample(data, state.key, state.step, batch_size))

        def body(i: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, rows = carry
            state, metrics = take_step(state)
            return state, jax.tree.map(lambda all_rows, row: all_rows.at[i].set(row), rows, metrics)

        shapes = jax.eval_shape(take_step, state)[1]
        rows = jax.tree.map(lambda leaf: jnp.zeros((max_steps, *leaf.shape), leaf.dtype), shapes)
        return lax.fori_loop(0, num_steps, body, (state, rows))

    return chunk
