"""The arguments that optimisers receive: against the loops of optax's documentation, on a linear model."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array
from jax.sharding import AxisType
from optax import contrib

from fmnist_jax import (
    Aux,
    Batch,
    Slope,
    TrainState,
    batch_metrics,
    cross_entropy,
    init_state,
    make_descent,
    make_objective,
    make_train_step,
    normalize,
)
from tests.functional.test_objective import LINEAR

OBJECTIVE = make_objective(LINEAR)


def sam() -> Any:
    return contrib.sam(optax.sgd(0.05), optax.chain(contrib.normalize(), optax.sgd(0.1)), opaque_mode=True)


# Each optimiser's arguments beyond the gradient, according to its documentation.
OPTIMIZERS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "sgd": (lambda: optax.sgd(0.05, momentum=0.9), ()),
    "plain transformation": (lambda: optax.GradientTransformation(optax.sgd(0.05).init, plain_update), ()),
    "lbfgs": (optax.lbfgs, ("value", "grad", "value_fn")),
    "backtracking": (lambda: optax.chain(optax.sgd(1.0), backtracking()), ("value", "grad", "value_fn")),
    "polyak_sgd": (optax.polyak_sgd, ("value",)),
    "momo": (lambda: contrib.momo(learning_rate=0.1), ("value",)),
    "momo_adam": (lambda: contrib.momo_adam(learning_rate=0.1), ("value",)),
    "reduce_on_plateau": (lambda: optax.chain(optax.sgd(0.05), contrib.reduce_on_plateau(patience=1)), ("value",)),
    "sophia": (lambda: contrib.sophia(0.01, update_interval=2), ("obj_fn",)),
    "sam": (sam, ("grad_fn",)),
    "finite backtracking": (
        lambda: optax.apply_if_finite(optax.chain(optax.sgd(1.0), backtracking()), 2),
        ("value", "grad", "value_fn"),
    ),
    "accumulated sam": (lambda: optax.MultiSteps(sam(), 2), ("grad_fn",)),
    "accumulated momo": (lambda: optax.MultiSteps(contrib.momo(0.1), 2), ("value",)),
    "injected hyperparams": (lambda: optax.inject_hyperparams(optax.polyak_sgd)(max_learning_rate=0.1), ("value",)),
}


def plain_update(updates: Any, state: Any, params: Any = None) -> Any:
    return optax.sgd(0.05).update(updates, state, params)


def backtracking() -> Any:
    return optax.scale_by_backtracking_linesearch(max_backtracking_steps=5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_train_step_equals_the_documented_loop(name: str, batch: Batch, key: Array) -> None:
    make, names = OPTIMIZERS[name]
    optimizer = make()
    images, labels = jnp.asarray(batch.images).reshape(8, -1) / 255.0, jnp.asarray(batch.labels)

    def loss(params: Any, *_: Any) -> Array:
        return cross_entropy(images @ params["kernel"], labels).mean()

    @jax.jit
    def documented_step(params: Any, opt_state: Any) -> Any:
        value, grad = jax.value_and_grad(loss)(params)
        available = {"value": value, "grad": grad, "value_fn": loss, "obj_fn": loss, "grad_fn": jax.grad(loss)}
        updates, opt_state = optimizer.update(grad, opt_state, params, **{arg: available[arg] for arg in names})
        return optax.apply_updates(params, updates), opt_state

    state = init_state(LINEAR, optimizer, key)
    params, opt_state = state.params, state.opt_state
    step = jax.jit(make_train_step(LINEAR, optimizer))
    for _ in range(3):
        state, _ = step(state, batch)
        params, opt_state = documented_step(params, opt_state)
        np.testing.assert_allclose(state.params["kernel"], params["kernel"], rtol=1e-4, atol=1e-6)
    assert (state.params["kernel"] != init_state(LINEAR, optimizer, key).params["kernel"]).any()


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        ("a mistake of the optimiser's own", "a mistake of the optimiser's own"),
        ("unexpected keyword arguments: all of them", "choose them with extra_args"),
    ],
    ids=["other error", "rejected extra args"],
)
def test_rejected_extra_args_raise_a_hint_and_other_errors_pass_through(
    raised: str, expected: str, batch: Batch, key: Array
) -> None:
    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> Any:
        raise TypeError(raised)

    optimizer = optax.GradientTransformation(lambda _: (), update)
    with pytest.raises(TypeError, match=expected):
        make_train_step(LINEAR, optimizer)(init_state(LINEAR, optimizer, key), batch)


def test_missing_optimizer_argument_is_named_and_can_come_from_extra_args(batch: Batch, key: Array) -> None:
    def update(updates: Any, state: Any, params: Any = None, *, temperature: Array) -> Any:
        return updates, state

    optimizer = optax.GradientTransformation(lambda _: (), update)
    state = init_state(LINEAR, optimizer, key)
    with pytest.raises(TypeError, match="temperature"):
        make_train_step(LINEAR, optimizer)(state, batch)
    after, _ = make_descent(OBJECTIVE, optimizer, extra_args=lambda slope: {"temperature": slope.value})(state, batch)
    assert int(after.step) == 1


def test_descent_returns_the_metrics_and_batch_stats_of_the_objective(batch: Batch, key: Array) -> None:
    def objective(params: Any, state: TrainState, batch: Batch) -> Any:
        loss, aux = OBJECTIVE(params, state, batch)
        return 2 * loss, aux._replace(metrics={"twice": 2 * loss})

    state = init_state(LINEAR, optax.sgd(0.1), key)
    once, _ = make_descent(OBJECTIVE, optax.sgd(0.2))(state, batch)
    twice, metrics = make_descent(objective, optax.sgd(0.1))(state, batch)
    np.testing.assert_allclose(twice.params["kernel"], once.params["kernel"], rtol=1e-6)
    assert set(metrics) == {"twice"}
    assert float(twice.batch_stats["calls"]) == 1


def test_measure_function_can_use_the_gradient_and_the_aux_output(batch: Batch, key: Array) -> None:
    objective, sgd = make_objective(LINEAR), optax.sgd(0.1)

    def measure(slope: Slope) -> dict[str, Array]:
        return {"norm": optax.tree.norm(slope.grad), "examples": slope.aux.metrics.confusion.sum()}

    before = init_state(LINEAR, sgd, key)
    after, measured = jax.jit(make_descent(objective, sgd, measure=measure))(before, batch)
    delta = optax.tree.sub(after.params, before.params)
    np.testing.assert_allclose(measured["norm"], optax.tree.norm(delta) / 0.1, rtol=1e-4)
    assert measured["examples"] == len(batch.labels)


@pytest.mark.parametrize("make", [lambda: optax.sgd(0.05), optax.polyak_sgd], ids=["sgd", "polyak_sgd"])
def test_jitted_optimizer_update_receives_only_arrays(make: Callable[[], Any], batch: Batch, key: Array) -> None:
    plain = make()
    jitted = optax.GradientTransformationExtraArgs(plain.init, jax.jit(plain.update))
    state = init_state(LINEAR, plain, key)
    for actual, expected in zip(
        *(jax.tree.leaves(make_train_step(LINEAR, optimizer)(state, batch)[0].params) for optimizer in (jitted, plain)),
        strict=True,
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def _mean_loss(params: Any, state: TrainState, batch: Batch) -> Any:
    """An objective written for a single device."""
    logits, batch_stats = LINEAR.apply(params, state.batch_stats, normalize(batch.images), train=True)
    losses = cross_entropy(logits, batch.labels)
    penalty = 0.1 * optax.tree.norm(params, squared=True)
    return losses.mean() + penalty, Aux(batch_stats, batch_metrics(logits, batch.labels, losses))


def test_custom_objective_over_several_devices_equals_one_device(batch: Batch, key: Array) -> None:
    optimizer = optax.chain(optax.sgd(0.05), optax.scale_by_backtracking_linesearch(max_backtracking_steps=3))
    step = make_descent(_mean_loss, optimizer)
    state = init_state(LINEAR, optimizer, key)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    sharded = jax.shard_map(step, mesh=mesh, in_specs=(jax.P(), jax.P("data")), out_specs=jax.P())
    (single_state, single_metrics), (sharded_state, sharded_metrics) = (
        jax.jit(step)(state, batch),
        jax.jit(sharded)(state, batch),
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), single_state.params, sharded_state.params)
    np.testing.assert_array_equal(single_metrics.confusion, sharded_metrics.confusion)
    np.testing.assert_allclose(single_metrics.loss_sum, sharded_metrics.loss_sum, rtol=1e-5)


def test_custom_metrics_are_not_reduced_over_shards(batch: Batch, key: Array) -> None:
    def objective(params: Any, state: TrainState, batch: Batch) -> Any:
        value, aux = _mean_loss(params, state, batch)
        logits, _ = LINEAR.apply(params, state.batch_stats, normalize(batch.images), train=True)
        return value, aux._replace(metrics=cross_entropy(logits, batch.labels))

    step = make_descent(objective, optax.sgd(0.1))
    state = init_state(LINEAR, optax.sgd(0.1), key)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    out_specs = (jax.P(), jax.P("data"))
    sharded = jax.shard_map(step, mesh=mesh, in_specs=(jax.P(), jax.P("data")), out_specs=out_specs)
    (_, single_losses), (_, sharded_losses) = jax.jit(step)(state, batch), jax.jit(sharded)(state, batch)
    np.testing.assert_allclose(single_losses, sharded_losses, rtol=1e-5)


def test_type_error_inside_an_update_is_raised_without_the_extra_args_hint(batch: Batch, key: Array) -> None:
    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> Any:
        jax.jit(lambda function: function)(print)

    optimizer = optax.GradientTransformation(lambda _: (), update)
    with pytest.raises(TypeError, match="as an abstract array") as error:
        make_train_step(LINEAR, optimizer)(init_state(LINEAR, optimizer, key), batch)
    assert "choose them with extra_args" not in str(error.value)
