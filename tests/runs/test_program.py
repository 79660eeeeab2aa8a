"""The compiled program of a run and its initial state, before any step."""

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.config.schema import (
    Config,
    DataConfig,
    ModelConfig,
    ParallelConfig,
    PopulationConfig,
    RunConfig,
    TrainConfig,
)
from fmnist_jax.data.dataset import load
from fmnist_jax.functional.averaging import weights_to_score
from fmnist_jax.functional.eval_step import make_predict
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.optim import make_schedule
from fmnist_jax.functional.recipe import Recipe, make_recipe
from fmnist_jax.functional.state import TrainState
from fmnist_jax.runs.leaves import state_digest
from fmnist_jax.runs.parallel import choose_layout, place
from fmnist_jax.runs.program import prepare

_TINY = Config(
    data=DataConfig(name="synthetic", synthetic_train_size=64, synthetic_test_size=20, validation_size=0),
    model=ModelConfig(family="plain", widths=(4,), depths=(1,)),
    train=TrainConfig(epochs=3, batch_size=16, eval_batch_size=10),
    parallel=ParallelConfig(devices=1),
    run=RunConfig(log_every=5),
)


def _with_no_op_step(config: Config) -> Recipe:
    """With a step that changes nothing, for tests that take none: compiling the real one takes most of the time."""
    return make_recipe(config)._replace(step=lambda state, _: (state, ()), sample=lambda data, *_: data)


def test_learning_rates_are_those_of_the_schedule_at_each_step() -> None:
    config = replace(_TINY, optim=replace(_TINY.optim, schedule="cosine"))
    total = config.total_steps
    splits = load(config.data)
    data = Batch(splits.train.images, splits.train.labels)
    _, program = prepare(_with_no_op_step(config), config, choose_layout(config), data, splits)
    schedule = make_schedule(config.optim, total)
    assert program.learning_rates.shape == (total,) == (12,)
    np.testing.assert_allclose(program.learning_rates, [float(schedule(step)) for step in range(total)], rtol=1e-5)


def test_compiled_chunk_matches_the_recipes_step() -> None:
    recipe, splits, layout = make_recipe(_TINY), load(_TINY.data), choose_layout(_TINY)
    data = place(Batch(splits.train.images, splits.train.labels), layout.replicated)
    state, program = prepare(recipe, _TINY, layout, data, splits)
    assert program.validate is None  # no image is held out
    assert int(state.step) == 0
    assert program.compile_seconds > 0
    step, batch = recipe.step, recipe.sample(data, state.key, state.step, 16)
    expected, _ = jax.jit(step)(state, batch)
    new_state, rows = program.chunk(state, data, jnp.int32(1))
    assert rows.loss_sum.shape == (5,)
    for leaf, expected_leaf in zip(jax.tree.leaves(new_state.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_allclose(leaf, expected_leaf, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("held_out", "devices", "axis", "seeds"),
    [
        *((held_out, 1, "data", 1) for held_out in (1, 20, 23)),
        *(
            (held_out, 2, axis, seeds)
            for held_out in (1, 23)
            for axis, seeds in (("data", 1), ("data", 2), ("member", 2))
        ),
    ],
)
def test_validation_counts_each_held_out_image_once_per_member(
    held_out: int, devices: int, axis: Literal["data", "member"], seeds: int
) -> None:
    config = replace(
        _TINY,
        data=replace(_TINY.data, validation_size=23),
        parallel=ParallelConfig(devices=devices, axis=axis),
        population=PopulationConfig(seeds=seeds),
    )
    recipe, splits, layout = _with_no_op_step(config), load(config.data), choose_layout(config)
    # With the same training images, so that only validation is recompiled.
    splits = splits._replace(validation=splits.validation.take(np.arange(held_out)))
    data = place(Batch(splits.train.images, splits.train.labels), layout.replicated)
    state, program = prepare(recipe, config, layout, data, splits)
    assert program.validate is not None
    validation, predict = splits.validation, jax.jit(make_predict(recipe.model))
    confusion, weights = jax.device_get((program.validate(weights_to_score(state)).confusion, weights_to_score(state)))
    for member in range(seeds):
        member_weights = jax.tree.map(lambda leaf, member=member: leaf[member], weights) if seeds > 1 else weights
        expected = np.zeros((10, 10), np.int32)
        np.add.at(expected, (validation.labels, np.asarray(predict(*member_weights, validation.images)).argmax(-1)), 1)
        np.testing.assert_array_equal(confusion[member] if seeds > 1 else confusion, expected)
    assert confusion.sum() == seeds * held_out


def test_members_start_as_runs_of_consecutive_seeds() -> None:
    splits, layout = load(_TINY.data), choose_layout(_TINY)
    data = place(Batch(splits.train.images, splits.train.labels), layout.replicated)

    def initial_state(seed: int, members: int) -> TrainState:
        train, population = replace(_TINY.train, seed=seed), PopulationConfig(seeds=members)
        config = replace(_TINY, train=train, population=population)
        return prepare(_with_no_op_step(config), config, layout, data, splits)[0]

    population = initial_state(3, 2)
    for member in range(2):
        state = jax.tree.map(lambda leaf, member=member: leaf[member], population)
        assert state_digest(state) == state_digest(initial_state(3 + member, 1))


def test_initial_state_does_not_depend_on_jaxs_default_prng_implementation() -> None:
    splits, layout = load(_TINY.data), choose_layout(_TINY)
    data = place(Batch(splits.train.images, splits.train.labels), layout.replicated)
    expected, _ = prepare(_with_no_op_step(_TINY), _TINY, layout, data, splits)
    with jax.default_prng_impl("rbg"):
        actual, _ = prepare(_with_no_op_step(_TINY), _TINY, layout, data, splits)
    assert state_digest(actual) == state_digest(expected)
