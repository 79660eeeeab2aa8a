"""What a run computes with, before it has taken a step."""

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.config.schema import Config, DataConfig, ModelConfig, ParallelConfig, RunConfig, TrainConfig
from fmnist_jax.data.dataset import load
from fmnist_jax.functional.averaging import weights_to_score
from fmnist_jax.functional.eval_step import make_predict
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.optim import make_schedule
from fmnist_jax.functional.recipe import make_recipe
from fmnist_jax.runs.parallel import choose, place
from fmnist_jax.runs.program import prepare

_TINY = Config(
    data=DataConfig(name="synthetic", synthetic_train_size=64, synthetic_test_size=20, validation_size=0),
    model=ModelConfig(family="plain", widths=(4,), depths=(1,)),
    train=TrainConfig(epochs=3, batch_size=16, eval_batch_size=10),
    parallel=ParallelConfig(devices=1),
    run=RunConfig(log_every=5),
)


@pytest.mark.parametrize("name", ["one_cycle", "cosine", "constant", "step"])
def test_the_learning_rates_are_those_of_the_schedule_at_each_step(
    name: Literal["one_cycle", "cosine", "constant", "step"],
) -> None:
    config = replace(_TINY, optim=replace(_TINY.optim, schedule=name))
    total = config.total_steps
    splits = load(config.data)
    data = Batch(splits.train.images, splits.train.labels)
    _, program = prepare(make_recipe(config), config, choose(config), data, splits)
    schedule = make_schedule(config.optim, total)
    assert program.learning_rates.shape == (total,) == (12,)
    np.testing.assert_allclose(program.learning_rates, [float(schedule(step)) for step in range(total)], rtol=1e-6)


def test_the_compiled_functions_are_those_of_the_recipe() -> None:
    recipe, splits, layout = make_recipe(_TINY), load(_TINY.data), choose(_TINY)
    data = place(Batch(splits.train.images, splits.train.labels), layout.everywhere)
    state, program = prepare(recipe, _TINY, layout, data, splits)
    assert program.validate is None  # no image is held out
    assert int(state.step) == 0
    assert program.compile_seconds > 0
    step, step_once = recipe.step, recipe.sample(data, state.key, state.step, 16)
    expected, _ = jax.jit(step)(state, step_once)
    after, rows = program.chunk(state, data, jnp.int32(1))
    assert rows.loss_sum.shape == (5,)
    for left, right in zip(jax.tree.leaves(after.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("held_out", [1, 20, 23])
def test_validation_counts_every_image_that_is_held_out_once(held_out: int) -> None:
    config = replace(_TINY, data=replace(_TINY.data, validation_size=held_out))
    recipe, splits, layout = make_recipe(config), load(config.data), choose(config)
    data = place(Batch(splits.train.images, splits.train.labels), layout.everywhere)
    state, program = prepare(recipe, config, layout, data, splits)
    assert program.validate is not None
    found, validation = program.validate(weights_to_score(state)), splits.validation
    logits = jax.jit(make_predict(recipe.model))(state.params, state.batch_stats, validation.images)
    expected = np.zeros((10, 10), np.int32)
    np.add.at(expected, (validation.labels, np.asarray(logits).argmax(-1)), 1)
    np.testing.assert_array_equal(found.confusion, expected)
    assert found.confusion.sum() == held_out
