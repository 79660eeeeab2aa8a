"""The moving average of the weights, against a loop in NumPy."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array

from fmnist_jax import (
    Batch,
    Metrics,
    Model,
    TrainState,
    Weights,
    init_state,
    make_averaging_step,
    make_train_chunk,
    make_train_step,
    start_average,
    weights_to_score,
)
from fmnist_jax.functional.interface import BatchStats, Params


def init(key: Array) -> tuple[Params, BatchStats]:
    return {"kernel": jax.random.normal(key, (784, 10))}, {"calls": jnp.zeros(3)}


def apply(
    params: Params, batch_stats: BatchStats, images: Array, *, train: bool, key: Array | None = None
) -> tuple[Array, BatchStats]:
    return images.reshape(len(images), -1) @ params["kernel"], {"calls": batch_stats["calls"] + 1}


LINEAR, OPTIMIZER = Model(init, apply), optax.sgd(0.3)
STEP = make_train_step(LINEAR, OPTIMIZER)


def init_averaged_state(key: Array) -> TrainState:
    return start_average(init_state(LINEAR, OPTIMIZER, key))


def test_average_of_constant_parameters_is_bit_identical(batch: Batch, key: Array) -> None:
    before = init_averaged_state(key)
    constant_step = make_averaging_step(make_train_step(LINEAR, optax.set_to_zero()), 0.9)
    after = before
    for _ in range(5):
        after, _ = jax.jit(constant_step)(after, batch)
    np.testing.assert_array_equal(weights_to_score(after).params["kernel"], before.params["kernel"])


@pytest.mark.parametrize("decay", [0.0, 0.05, 0.5, 0.999])
def test_average_of_params_and_batch_stats_equals_a_numpy_loop(batch: Batch, key: Array, decay: float) -> None:
    state, plain = init_averaged_state(key), init_state(LINEAR, OPTIMIZER, key)
    step, plain_step = jax.jit(make_averaging_step(STEP, decay)), jax.jit(STEP)
    kernel = np.asarray(state.params["kernel"], np.float64)
    calls = np.zeros(3)
    for t in range(25):
        state, metrics = step(state, batch)
        plain, expected = plain_step(plain, batch)
        effective_decay = min(decay, (1 + t) / (10 + t))
        kernel = effective_decay * kernel + (1 - effective_decay) * np.asarray(plain.params["kernel"], np.float64)
        calls = effective_decay * calls + (1 - effective_decay) * (t + 1)
        assert metrics.loss_sum == expected.loss_sum
    np.testing.assert_array_equal(state.params["kernel"], plain.params["kernel"])
    average = weights_to_score(state)
    np.testing.assert_allclose(average.params["kernel"], kernel, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(average.batch_stats["calls"], calls, rtol=1e-5)


def test_average_keeps_integer_and_bfloat16_dtypes(batch: Batch, key: Array) -> None:
    def init_mixed_dtypes(key: Array) -> tuple[Params, BatchStats]:
        return {"kernel": jnp.zeros((784, 10), jnp.bfloat16)}, {"calls": jnp.int32(0)}

    model = Model(init_mixed_dtypes, apply)
    state = start_average(init_state(model, OPTIMIZER, key))
    step = make_averaging_step(make_train_step(model, OPTIMIZER), 0.9)
    chunk = make_train_chunk(step, 4, 3)
    after, _ = jax.jit(chunk)(state, jax.tree.map(jnp.asarray, batch), jnp.int32(3))
    average = weights_to_score(after)
    assert average.batch_stats["calls"] == 3
    assert average.batch_stats["calls"].dtype == jnp.int32
    assert average.params["kernel"].dtype == jnp.bfloat16
    assert jnp.abs(average.params["kernel"]).max() > 0


def test_average_of_bfloat16_accumulates_updates_below_its_resolution(batch: Batch, key: Array) -> None:
    model = Model(lambda _: ({"kernel": jnp.zeros((784, 10), jnp.bfloat16)}, {}), apply)

    def no_op_step(state: TrainState, _: Batch) -> tuple[TrainState, Array]:
        return replace(state, step=state.step + 1), jnp.float32(0)

    late_state = replace(start_average(init_state(model, OPTIMIZER, key)), step=jnp.int32(100_000))
    state = replace(late_state, params={"kernel": jnp.ones((784, 10), jnp.bfloat16)})
    chunk = make_train_chunk(make_averaging_step(no_op_step, 0.999), 4, 1000)
    after, _ = jax.jit(chunk)(state, jax.tree.map(jnp.asarray, batch), jnp.int32(1000))
    average = weights_to_score(after).params["kernel"]
    assert average.dtype == jnp.bfloat16
    np.testing.assert_allclose(average.astype(jnp.float32), 1 - 0.999**1000, rtol=2**-8)


def test_average_starts_as_a_copy_so_that_the_state_can_be_donated(batch: Batch, key: Array) -> None:
    state = init_averaged_state(key)
    initial = np.asarray(state.params["kernel"]).copy()
    np.testing.assert_array_equal(weights_to_score(state).params["kernel"], initial)
    step = jax.jit(make_averaging_step(STEP, 0.9), donate_argnums=0)
    after, _ = step(state, batch)
    assert not np.array_equal(weights_to_score(after).params["kernel"], after.params["kernel"])


def test_without_an_average_the_latest_weights_are_scored_and_no_leaf_is_added(key: Array) -> None:
    state = init_state(LINEAR, OPTIMIZER, key)
    assert weights_to_score(state) == Weights(state.params, state.batch_stats)
    assert len(jax.tree.leaves(state)) == 4  # step, kernel, calls, key
    assert len(jax.tree.leaves(init_averaged_state(key))) == 6


def test_averaging_step_rejects_a_state_without_averages(batch: Batch, key: Array) -> None:
    with pytest.raises(ValueError, match="start_average"):
        make_averaging_step(STEP, 0.9)(init_state(LINEAR, OPTIMIZER, key), batch)


def test_vmapped_averages_of_eight_models_equal_single_ones(batch: Batch, key: Array) -> None:
    step = make_averaging_step(STEP, 0.9)
    states = jax.vmap(init_averaged_state)(jax.random.split(key, 8))
    mapped: TrainState = jax.jit(jax.vmap(step, in_axes=(0, None)))(states, batch)[0]
    for i in range(8):
        single: tuple[TrainState, Metrics] = jax.jit(step)(jax.tree.map(lambda leaf, i=i: leaf[i], states), batch)
        np.testing.assert_allclose(
            weights_to_score(mapped).params["kernel"][i],
            weights_to_score(single[0]).params["kernel"],
            rtol=1e-4,
            atol=1e-6,
        )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_averaging_step_keeps_dtypes_under_strict_dtype_promotion(batch: Batch, key: Array, dtype: jnp.dtype) -> None:
    plain_state = init_state(LINEAR, OPTIMIZER, key)
    state = start_average(replace(plain_state, batch_stats={"calls": jnp.zeros(3, dtype)}))
    with jax.numpy_dtype_promotion("strict"):
        after, _ = jax.eval_shape(make_averaging_step(STEP, 0.9), state, batch)
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, state)


def test_complex_parameters_are_averaged(batch: Batch) -> None:
    model = Model(lambda _: ({"w": jnp.full(3, 1 + 1j)}, {}), LINEAR.apply)
    state = init_state(model, OPTIMIZER, jax.random.key(0))

    def doubling_step(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        return replace(state, step=state.step + 1, params={"w": state.params["w"] * 2}), batch

    after, _ = make_averaging_step(doubling_step, 0.5)(start_average(state), batch)
    # The effective decay of the first step is a tenth.
    np.testing.assert_allclose(weights_to_score(after).params["w"], np.ones(3) * 1.9 * (1 + 1j), rtol=1e-6)


def test_decay_close_to_one_keeps_its_precision(batch: Batch, key: Array) -> None:
    def set_to_ones(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        return replace(state, params=jax.tree.map(jnp.ones_like, state.params)), batch

    before = init_averaged_state(key)
    zero_averages = replace(before, step=jnp.int32(10**9), averages=jax.tree.map(jnp.zeros_like, before.averages))
    after, _ = make_averaging_step(set_to_ones, 0.999999)(zero_averages, batch)
    np.testing.assert_allclose(weights_to_score(after).params["kernel"], 1e-6, rtol=1e-4)
