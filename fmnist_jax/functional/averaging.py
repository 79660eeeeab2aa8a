"""An exponential average of the weights, which evaluation uses in their place."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fmnist_jax.functional.descent import TrainStep
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.state import TrainState, Weights


def start_average(state: TrainState) -> TrainState:
    """Starts an average of the parameters and batch statistics at their present values."""
    # Copies, because a buffer that a state holds twice cannot be donated.
    params, batch_stats = jax.tree.map(jnp.copy, (state.params, state.batch_stats))
    return dataclasses.replace(state, averages=Weights(params, batch_stats))


def make_averaging_step(step_fn: TrainStep, decay: float) -> TrainStep:
    """Makes a step that also moves the average towards the new weights (Polyak & Juditsky 1992).

    After the step of number t, counted from 0, the average keeps min(decay, (1 + t) / (10 + t)) of itself, so
    that the first weights are soon forgotten.

    Args:
      step_fn: what `make_train_step` or `make_descent` returns.
      decay: share of the average that a step keeps in the long run, in [0, 1).

    Raises (the step):
      ValueError: the state has no average.
    """

    def averaging_step(state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
        if state.averages is None:
            raise ValueError("the state keeps no average of its weights: give it one by start_average")
        after, metrics = step_fn(state, batch)
        steps = state.step.astype(jnp.float32)
        kept = jnp.minimum(decay, (1 + steps) / (10 + steps))
        latest = Weights(after.params, after.batch_stats)

        def moved(average: Array, new: Array) -> Array:
            if not jnp.issubdtype(average.dtype, jnp.floating):
                return new  # such as a count, of which there is no mean
            # Not as a sum of two shares, whose rounding would move the average of weights that do not move.
            return (average + (1 - kept) * (new - average)).astype(average.dtype)

        return dataclasses.replace(after, averages=jax.tree.map(moved, state.averages, latest)), metrics

    return averaging_step


def weights_to_score(state: TrainState) -> Weights:
    """The average where the state keeps one, else the latest weights: what evaluation and prediction use."""
    return Weights(state.params, state.batch_stats) if state.averages is None else state.averages
