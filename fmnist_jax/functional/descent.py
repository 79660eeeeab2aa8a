"""A descent step on any objective, with any optax optimiser and the extra arguments that it needs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from jax import Array, lax

from fmnist_jax.functional.interface import Params
from fmnist_jax.functional.metrics import Metrics
from fmnist_jax.functional.objective import Aux, Batch, Objective
from fmnist_jax.functional.sharding import batch_axes, varying_axes
from fmnist_jax.functional.state import TrainState

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Any]]
"""`(state, batch) -> (state, metrics)`, the metrics being a pytree of sums, by default `Metrics`."""


class Slope(NamedTuple):
    """The objective of one batch and its gradient, at the parameters to be updated."""

    params: Params
    value: Array
    """f32[]: the loss."""
    grad: Params
    value_fn: Callable[[Params], Array]
    """The loss f32[] of the same batch, with the same random draws, at other parameters."""
    grad_fn: Callable[..., Params]
    """The gradient of `value_fn`; further arguments, which `optax.contrib.sam` passes, are ignored."""
    aux: Aux


ExtraArgs = Callable[[Slope], Mapping[str, Any]]
"""Chooses the arguments of an optimiser's `update` that follow the gradient, its state and the parameters."""


# Most optax optimisers accept all extra arguments and use those they know. Line searches (lbfgs) refuse unknown ones,
# SAM all but its own, a jitted update all functions, and a plain transformation not wrapped by optax everything.
_EXTRA_ARGS_CANDIDATES = (
    ("value", "grad", "value_fn", "obj_fn", "grad_fn"),
    ("value", "grad", "value_fn"),
    ("grad_fn",),
    ("value", "grad"),
    (),
)
_REJECTION_MESSAGES = ("unexpected keyword", "['grad_fn']", "['value_fn']", "['obj_fn']")


def _update(optimizer: optax.GradientTransformation, slope: Slope, opt_state: optax.OptState) -> Any:
    """Calls `optimizer.update` with the first extra arguments that it does not refuse; it refuses while tracing."""
    offered = {**slope._asdict(), "obj_fn": slope.value_fn}
    for names in _EXTRA_ARGS_CANDIDATES:
        try:
            return optimizer.update(slope.grad, opt_state, slope.params, **{name: offered[name] for name in names})
        except TypeError as error:
            if not any(words in str(error).lower() for words in _REJECTION_MESSAGES):
                raise
            refusal = error
    raise TypeError(
        f"the optimiser accepts none of the extra arguments offered ({refusal}): choose them with extra_args"
    ) from refusal


def _objective_metrics(slope: Slope) -> Any:
    return slope.aux.metrics


def _reduce_over_shards(objective: Objective) -> Objective:
    """The objective of a whole batch whose rows are spread over the shards of a `shard_map`.

    What `make_objective` returns already is one. Any other is taken to be a mean over its rows: left unchanged, its
    gradient would be that of the sum over the shards, because the transpose of copying parameters to them is a sum.
    """

    def whole(params: Params, state: TrainState, batch: Batch) -> tuple[Array, Aux]:
        value, aux = objective(params, state, batch)
        shards = batch_axes(batch, params)

        def varying_shards(leaf: Any) -> tuple[str, ...]:
            return tuple(axis for axis in shards if axis in varying_axes(leaf))

        if isinstance(aux.metrics, Metrics):  # which are known to be sums
            aux = Aux(aux.batch_stats, jax.tree.map(lambda leaf: lax.psum(leaf, varying_shards(leaf)), aux.metrics))
        return lax.pmean(value, varying_shards(value)), aux

    return whole


def make_descent(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    extra_args: ExtraArgs | None = None,
    measure: Callable[[Slope], Any] = _objective_metrics,
) -> TrainStep:
    """Makes a training step that moves the parameters down an objective.

    The step is pure and not compiled. Optimisers get the arguments they need: the loss (`optax.polyak_sgd`,
    `contrib.momo`, `contrib.reduce_on_plateau`), the loss as a function (`optax.lbfgs`, `contrib.sophia`) or its
    gradient (`contrib.sam` in opaque mode), alone or wrapped (`MultiSteps`, `apply_if_finite`, `freeze`); those in the
    parts of a `multi_transform`, which see some of the parameters only, can use the loss, but no function.

    Args:
      objective: what `make_objective` returns, or your own `(params, state, batch) -> (loss f32[], Aux)`, a mean over
        the rows of the batch; under `shard_map` it is given those of one shard, and its mean and the sums of `Metrics`
        are reduced over all shards, while other metrics and the statistics are left as they are.
      optimizer: turns gradients into updates.
      extra_args: chooses the extra arguments, for an optimiser that needs others, such as
        `lambda slope: {"loss": slope.value}`.
      measure: returns the metrics of a step, any pytree of arrays; by default those of the objective. It has access to
        the gradient, too: `lambda slope: {"norm": optax.tree.norm(slope.grad)}`.

    Returns:
      `step(state, batch) -> (state, metrics)`, the metrics being those of the batch before the update.

    Raises (the step):
      TypeError: the optimiser needs an argument that is not offered.
    """
    global_objective = _reduce_over_shards(objective)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
        (value, aux), grad = jax.value_and_grad(global_objective, has_aux=True)(state.params, state, batch)

        def value_fn(params: Params) -> Array:
            return global_objective(params, state, batch)[0]

        def grad_fn(params: Params, *_: Any) -> Params:
            return jax.grad(value_fn)(params)

        slope = Slope(state.params, value, grad, value_fn, grad_fn, aux)
        if extra_args is None:
            updates, opt_state = _update(optimizer, slope, state.opt_state)
        else:
            updates, opt_state = optimizer.update(grad, state.opt_state, state.params, **extra_args(slope))
        new_state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=aux.batch_stats,
            opt_state=opt_state,
        )
        return new_state, measure(slope)

    return step
