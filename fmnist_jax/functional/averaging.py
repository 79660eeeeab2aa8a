"""An exponential moving average of the weights, which evaluation uses in their place."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fmnist_jax.functional.descent import TrainStep
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.precision import at_least_float32
from fmnist_jax.functional.state import TrainState, Weights


def start_average(state: TrainState) -> TrainState:
    """Starts an average of the parameters and batch statistics at their current values, in at least float32."""

    def init_leaf(leaf: Array) -> Array:
        # Half precision could not represent what one step adds to the average. Other leaves are copied, because a
        # buffer that a state holds twice cannot be donated.
        real = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.array(leaf, at_least_float32(leaf.dtype)) if real else jnp.copy(leaf)

    params, batch_stats = jax.tree.map(init_leaf, (state.params, state.batch_stats))
    return dataclasses.replace(state, averages=Weights(params, batch_stats))


def make_averaging_step(step_fn: TrainStep, decay: float) -> TrainStep:
    """Makes a step that also moves the average towards the new weights (Polyak & Juditsky 1992).

    In step t, counted from 0, the average keeps min(decay, (1 + t) / (10 + t)) of itself, so that the first weights are
    soon forgotten.

    Args:
      step_fn: what `make_train_step` or `make_descent` returns.
      decay: share of the average that a step keeps in the long run, in [0, 1).

    Raises (the step):
      ValueError: the state has no average.
    """

    def averaging_step(state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
        if state.averages is None:
            raise ValueError("the state keeps no average of its weights: add one with start_average")
        new_state, metrics = step_fn(state, batch)
        steps = state.step.astype(jnp.float32)
        update_rate = jnp.maximum(1 - decay, 9 / (10 + steps))  # which float32 holds more exactly than the shares kept
        latest = Weights(new_state.params, new_state.batch_stats)

        def update_leaf(average: Array, new: Array) -> Array:
            if not _is_inexact(average):
                return new
            # Not as a weighted sum, whose rounding would change the average of constant weights.
            return average + update_rate.astype(average.dtype) * (new.astype(average.dtype) - average)

        return dataclasses.replace(new_state, averages=jax.tree.map(update_leaf, state.averages, latest)), metrics

    return averaging_step


def weights_to_score(state: TrainState) -> Weights:
    """The average if the state keeps one, else the latest weights: what evaluation and prediction use.

    In the dtypes of the weights themselves.
    """
    latest = Weights(state.params, state.batch_stats)
    if state.averages is None:
        return latest

    def to_weight_dtype(average: Array, new: Array) -> Array:
        return average if average.dtype == new.dtype else average.astype(new.dtype)

    return jax.tree.map(to_weight_dtype, state.averages, latest)


def _is_inexact(leaf: Array) -> bool:
    """Whether a leaf is floating or complex and can be averaged, unlike a count."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)
