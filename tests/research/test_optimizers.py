"""Optax optimisers, used as documented, with the same training step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from jax import Array

import fmnist_jax as fj

init_state = jax.jit(fj.init_state, static_argnums=(0, 1))


def step_losses(step: Any, state: fj.TrainState, batch: fj.Batch, steps: int = 4) -> list[float]:
    """The mean loss before each of `steps` compiled steps on one batch."""
    step, losses = jax.jit(step), []
    for _ in range(steps):
        state, metrics = step(state, batch)
        losses.append(fj.summarize(metrics).loss)
    return losses


@pytest.fixture(scope="module")
def small_model() -> fj.Model:
    return fj.make_model(fj.ModelConfig(family="plain", widths=(4, 4), depths=(1, 1)))


def test_gradients_accumulate_over_steps(small_model: fj.Model, batch: fj.Batch, key: Array) -> None:
    optimizer = optax.MultiSteps(optax.adam(0.01), every_k_schedule=2)
    losses = step_losses(fj.make_train_step(small_model, optimizer), init_state(small_model, optimizer, key), batch)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[2] < losses[1]


def test_layers_can_have_separate_optimizers(small_model: fj.Model, batch: fj.Batch, key: Array) -> None:
    optimizer = optax.multi_transform(
        {"head": optax.adam(0.01), "rest": optax.set_to_zero()},
        lambda params: {name: "head" if name == "Dense_0" else "rest" for name in params},
    )
    before = init_state(small_model, optimizer, key)
    after, _ = jax.jit(fj.make_train_step(small_model, optimizer))(before, batch)
    assert (before.params["Conv_0"]["kernel"] == after.params["Conv_0"]["kernel"]).all()
    assert (before.params["Dense_0"]["kernel"] != after.params["Dense_0"]["kernel"]).any()


def test_lbfgs_line_search_runs_in_the_compiled_chunk(small_model: fj.Model, batch: fj.Batch, key: Array) -> None:
    optimizer, data = optax.lbfgs(memory_size=3), jax.tree.map(jnp.asarray, batch)
    chunk = fj.make_train_chunk(fj.make_train_step(small_model, optimizer), batch_size=8, max_steps=3)
    state, metrics = jax.jit(chunk)(init_state(small_model, optimizer, key), data, jnp.int32(3))
    assert int(state.step) == 3
    assert metrics.loss_sum[2] < 0.9 * metrics.loss_sum[0]
