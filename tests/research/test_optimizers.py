"""Optimisers of optax, each as its documentation has it, through the same training step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from jax import Array

import fmnist_jax as fj

initialized = jax.jit(fj.init_state, static_argnums=(0, 1))


def losses(step: Any, state: fj.TrainState, batch: fj.Batch, steps: int = 4) -> list[float]:
    """The mean loss before each of a few compiled steps on one batch."""
    step, found = jax.jit(step), []
    for _ in range(steps):
        state, metrics = step(state, batch)
        found.append(fj.summarize(metrics).loss)
    return found


@pytest.fixture(scope="module")
def small() -> fj.Model:
    return fj.make_model(fj.ModelConfig(family="plain", widths=(4, 4), depths=(1, 1)))


def test_gradients_accumulate_over_steps(small: fj.Model, batch: fj.Batch, key: Array) -> None:
    optimizer = optax.MultiSteps(optax.adam(0.01), every_k_schedule=2)
    found = losses(fj.make_train_step(small, optimizer), initialized(small, optimizer, key), batch)
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert found[2] < found[1]


def test_layers_take_optimizers_of_their_own(small: fj.Model, batch: fj.Batch, key: Array) -> None:
    optimizer = optax.multi_transform(
        {"head": optax.adam(0.01), "rest": optax.set_to_zero()},
        lambda params: {name: "head" if name == "Dense_0" else "rest" for name in params},
    )
    before = initialized(small, optimizer, key)
    after, _ = jax.jit(fj.make_train_step(small, optimizer))(before, batch)
    assert (before.params["Conv_0"]["kernel"] == after.params["Conv_0"]["kernel"]).all()
    assert (before.params["Dense_0"]["kernel"] != after.params["Dense_0"]["kernel"]).any()


def test_lbfgs_searches_along_its_line_in_the_compiled_loop(small: fj.Model, batch: fj.Batch, key: Array) -> None:
    optimizer, data = optax.lbfgs(memory_size=3), jax.tree.map(jnp.asarray, batch)
    chunk = fj.make_train_chunk(fj.make_train_step(small, optimizer), batch_size=8, max_steps=3)
    state, metrics = jax.jit(chunk)(initialized(small, optimizer, key), data, jnp.int32(3))
    assert int(state.step) == 3
    assert metrics.loss_sum[2] < 0.9 * metrics.loss_sum[0]
