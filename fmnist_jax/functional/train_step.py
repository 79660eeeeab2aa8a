"""One training step, and many of them in one compiled loop."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from fmnist_jax.config.schema import AugmentConfig
from fmnist_jax.config.validation import check_choices
from fmnist_jax.functional.augment import Augment, identity, mirror_alternately
from fmnist_jax.functional.descent import TrainStep, make_descent
from fmnist_jax.functional.interface import Model
from fmnist_jax.functional.metrics import LossFn, MetricsFn, batch_metrics, cross_entropy
from fmnist_jax.functional.mixing import Mix, unmixed
from fmnist_jax.functional.objective import Batch, make_objective
from fmnist_jax.functional.sampling import batch_epochs, batch_indices
from fmnist_jax.functional.sharding import varying_like, with_auto_axes
from fmnist_jax.functional.state import TrainState

TrainChunk = Callable[[TrainState, Batch, Any], tuple[TrainState, Any]]
"""`(state, data, num_steps i32[]) -> (state, metrics)`: what `make_train_chunk` returns."""

Sample = Callable[[Batch, Array, Array, int], Batch]
"""`(data, key [], step i32[], batch_size) -> batch`: the batch of a step out of a whole data set.

On several devices each gathers its part as if it were the batch of another step and size (`sample_own_rows`): base what
is to change during training on the number of examples so far, `step * batch_size`, the same on any number of devices.
"""


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    *,
    loss_fn: LossFn = cross_entropy,
    augment: Augment = identity,
    mix: Mix = unmixed,
    metrics_fn: MetricsFn = batch_metrics,
) -> TrainStep:
    """Makes one step of gradient descent on the mean loss of a batch.

    The step is pure and not compiled: jit, donate, map, scan or shard it as the program needs. It is
    `make_descent(make_objective(model, ...), optimizer)`, and its randomness comes from `state.key` and `state.step`
    alone.

    Args:
      model: the network.
      optimizer: any optax optimiser, or anything with the same `init` and `update`; it gets the extra arguments that it
        asks for.
      loss_fn: as for `make_objective`.
      augment: as for `make_objective`.
      mix: as for `make_objective`.
      metrics_fn: as for `make_objective`.

    Returns:
      `step(state, batch) -> (state, metrics)`, the metrics being those of the batch before the update. Every
      row counts: use padded batches for evaluation only.

    Raises (the step, while it is traced):
      ValueError: `augment` turns bytes into floats, or images, labels or losses are not as for `make_objective`.
      TypeError: the optimiser needs an argument that is not offered.

    Examples:
      >>> def apply(params, batch_stats, images, *, train, key=None):
      ...     return images.reshape(len(images), -1) @ params, batch_stats
      >>> linear = fj.Model(lambda key: (jnp.zeros((784, 10)), {}), apply)
      >>> step = jax.jit(fj.make_train_step(linear, optax.sgd(0.1)))
      >>> batch = fj.Batch(np.full((4, 28, 28, 1), 255, np.uint8), np.array([0, 0, 0, 1]))
      >>> before = fj.init_state(linear, optax.sgd(0.1), jax.random.key(0))
      >>> after, metrics = step(before, batch)
      >>> fj.summarize(metrics).accuracy, int(before.step), int(after.step)
      (0.75, 0, 1)
    """
    objective = make_objective(model, loss_fn=loss_fn, augment=augment, mix=mix, metrics_fn=metrics_fn)
    return make_descent(objective, optimizer)


def sample_batch(data: Batch, key: Array, step: Array | int, batch_size: int) -> Batch:
    """Gathers the batch of a step i32[] from a whole data set, images [N, ...], in the order that `key` determines."""
    return _gather(data, batch_indices(key, step, batch_size, data.images.shape[0]))


def sample_mirrored_batch(data: Batch, key: Array, step: Array | int, batch_size: int) -> Batch:
    """Like `sample_batch`, but with the images [N, H, W, C] mirrored in every other epoch by `mirror_alternately`."""
    n = data.images.shape[0]
    indices, epochs = batch_indices(key, step, batch_size, n), batch_epochs(step, batch_size, n)
    batch = _gather(data, indices)
    return Batch(mirror_alternately(key, jnp.asarray(batch.images), indices, epochs), batch.labels)


def make_sample(config: AugmentConfig) -> Sample:
    """Chooses how the batches of a configuration are gathered: mirrored in every other epoch if `flip` says so.

    Raises:
      ConfigError: `flip` is not one of its choices.
    """
    check_choices("augment", config, "flip")
    return sample_mirrored_batch if config.flip == "alternating" else sample_batch


def _gather(data: Batch, indices: Array) -> Batch:
    rows = len(data.images)
    for labels in jax.tree.leaves(data.labels):
        if len(labels) != rows:  # an index out of range would take the last row
            raise ValueError(f"there are {rows} images and {len(labels)} labels: expected as many of both")
    take = with_auto_axes(lambda indices, leaf: leaf[indices], rows=True)
    return jax.tree.map(lambda leaf: take(indices, jnp.asarray(leaf)), data)


def refuse_longer(num_steps: Array | int, max_steps: int) -> None:
    """Checks the length of a chunk, if it is a concrete number, not a traced one.

    Raises:
      ValueError: it is more than `max_steps`, so that metrics would be lost.
    """
    if not isinstance(num_steps, jax.core.Tracer) and num_steps > max_steps:
        raise ValueError(f"num_steps is {num_steps}: expected at most max_steps ({max_steps})")


def make_train_chunk(
    step_fn: TrainStep, batch_size: int, max_steps: int, *, sample: Sample = sample_batch
) -> TrainChunk:
    """Makes a chunk: many steps in one compiled loop over data that stay on the device.

    Args:
      step_fn: what `make_train_step` returns.
      batch_size: B.
      max_steps: the longest chunk, in steps.
      sample: gathers the batch of a step, given the root key of the state.

    Returns:
      `chunk(state, data, num_steps) -> (state, metrics)`, where `data` is the whole training set as one
      `Batch`, `num_steps` i32[] is at most `max_steps` (one executable serves them all), and each leaf of
      the metrics has a leading axis of `max_steps`, zero from `num_steps` on.

    Raises (the chunk):
      ValueError: `num_steps` is more than `max_steps`; checked only if it is a concrete number, not a traced one.
    """

    def chunk(state: TrainState, data: Batch, num_steps: Array) -> tuple[TrainState, Any]:
        refuse_longer(num_steps, max_steps)

        def take_step(state: TrainState) -> tuple[TrainState, Any]:
            return step_fn(state, sample(data, state.key, state.step, batch_size))

        def body(i: Array, carry: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
            state, rows = carry
            state, metrics = take_step(state)
            return state, jax.tree.map(lambda all_rows, row: all_rows.at[i].set(row), rows, metrics)

        shapes = jax.eval_shape(take_step, state)[1]
        stacked_metrics = jax.tree.map(
            lambda leaf: varying_like(leaf, jnp.zeros((max_steps, *leaf.shape), leaf.dtype)), shapes
        )
        return lax.fori_loop(0, num_steps, body, (state, stacked_metrics))

    return chunk
