"""The parts that a configuration names are those that are put together by hand."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array

from fmnist_jax import (
    AugmentConfig,
    Batch,
    Config,
    ConfigError,
    InitConfig,
    Model,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    init_state,
    make_augment,
    make_averaging_step,
    make_cross_entropy,
    make_descent,
    make_mix,
    make_model,
    make_optimizer,
    make_recipe,
    make_schedule,
    make_train_step,
    random_flip,
    sample_batch,
    sample_mirrored_batch,
    start_average,
    unmixed,
)
from tests.functional.test_objective import LINEAR

CONFIG = Config(
    model=ModelConfig(family="plain", widths=(3,), depths=(1,), dropout=0.3),
    optim=OptimConfig(peak_lr=0.05, warmup=0.0),
    augment=AugmentConfig(flip="random", erase_probability=0.5, mixup_alpha=1.0),
    train=TrainConfig(label_smoothing=0.2, average_decay=0.5),
)


def program(function: Callable[..., Any], *operands: Any) -> str:
    """What is to be compiled, under a name that does not tell which function it comes from."""

    def anonymous(*operands: Any) -> Any:
        return function(*operands)

    return jax.jit(anonymous).lower(*operands).as_text()


def test_a_recipe_steps_as_its_parts_do(batch: Batch, key: Array) -> None:
    model = make_model(CONFIG.model)
    optimizer = make_optimizer(CONFIG.optim, make_schedule(CONFIG.optim, CONFIG.total_steps))
    augment, mix = make_augment(CONFIG.augment), make_mix(CONFIG.augment)
    step = make_train_step(model, optimizer, loss_fn=make_cross_entropy(0.2), augment=augment, mix=mix)
    recipe = make_recipe(CONFIG)

    def init(key: Array) -> Any:
        return start_average(init_state(model, optimizer, key))

    # The same program, so the same numbers, without the time to compile it twice.
    assert program(recipe.init, key) == program(init, key)
    steps = (recipe.step, make_averaging_step(step, 0.5), make_averaging_step(step, 0.4))
    found, expected, other = (program(each, jax.eval_shape(init, key), batch) for each in steps)
    assert found == expected != other


def test_no_average_is_kept_where_none_is_asked_for(key: Array) -> None:
    recipe = make_recipe(replace(CONFIG, train=replace(CONFIG.train, average_decay=0.0)))
    assert jax.eval_shape(recipe.init, key).averages is None
    assert jax.eval_shape(make_recipe(CONFIG).init, key).averages is not None


def test_alternating_mirrors_are_applied_where_batches_are_gathered() -> None:
    assert make_recipe(CONFIG).sample is sample_batch
    alternating = replace(CONFIG, augment=AugmentConfig(flip="alternating"))
    assert make_recipe(alternating).sample is sample_mirrored_batch


def test_a_step_with_everything_on_holds_under_strict_dtype_promotion(batch: Batch, key: Array) -> None:
    everything = AugmentConfig(
        crop_padding=2, rotation=9.0, erase_probability=0.5, cutout=5, cutmix_alpha=1.0, photo_probability=0.5
    )
    model = ModelConfig(family="resnet", widths=(3, 4), depths=(2, 1), stochastic_depth=0.1, dtype="bfloat16")
    recipe = make_recipe(replace(CONFIG, augment=everything, model=model))
    state = jax.eval_shape(recipe.init, key)
    with jax.numpy_dtype_promotion("strict"):
        after, _ = jax.eval_shape(recipe.step, state, batch)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_part_is_replaced_by_composing_those_behind_it_anew(decay: float, batch: Batch, key: Array) -> None:
    recipe = make_recipe(replace(CONFIG, train=replace(CONFIG.train, average_decay=decay)))
    state, again = jax.jit(recipe.init)(key), make_descent(recipe.objective, recipe.optimizer)
    steps = (make_averaging_step(again, decay) if decay else again, recipe.step, recipe.make_step(recipe.objective))
    expected, own, anew = (program(step, state, batch) for step in steps)
    assert own == anew == expected
    jax.tree.map(np.testing.assert_array_equal, recipe.optimizer.init(state.params), state.opt_state)


def test_a_part_that_is_given_goes_into_all_that_is_made_of_it(batch: Batch, key: Array) -> None:
    config = replace(CONFIG, train=replace(CONFIG.train, average_decay=0.0))
    own: dict[str, Any] = {"loss_fn": lambda logits, _: (logits**2).mean(-1), "augment": random_flip, "mix": unmixed}
    optimizer = optax.adam(0.1)
    recipe = make_recipe(config, model=LINEAR, optimizer=optimizer, schedule=optax.constant_schedule(0.1), **own)
    state = jax.eval_shape(partial(init_state, LINEAR, optimizer), key)
    expected = make_train_step(LINEAR, optimizer, **own)
    assert program(recipe.step, state, batch) == program(expected, state, batch)
    assert program(recipe.init, key) == program(partial(init_state, LINEAR, optimizer), key)
    assert (recipe.model, recipe.optimizer, recipe.schedule(3)) == (LINEAR, optimizer, 0.1)


def test_a_model_of_ones_own_is_frozen_by_its_own_names_and_takes_images_that_the_network_does_not(key: Array) -> None:
    def init(key: Array) -> Any:
        return {"body": {"w": jnp.ones((64, 3))}, "head": {"w": jnp.ones((3, 10))}}, {}

    def apply(params: Any, batch_stats: Any, images: Array, *, train: bool, key: Array | None = None) -> Any:
        return images.reshape(-1, 64) @ params["body"]["w"] @ params["head"]["w"], batch_stats

    config = Config(init=InitConfig(freeze="body"), optim=OptimConfig(warmup=0.0))  # four stages, too many for 8x8
    recipe = make_recipe(config, model=Model(init, apply), image_shape=(8, 8, 1))
    batch = Batch(np.full((2, 8, 8, 1), 99, np.uint8), np.arange(2))
    after, _ = jax.jit(recipe.step)(jax.jit(recipe.init)(key), batch)
    assert (after.params["body"]["w"] == 1).all()
    assert not (after.params["head"]["w"] == 1).all()
    with pytest.raises(ConfigError, match=r"'tail', which matches no parameter: choose one .* some of body/w, head/w"):
        make_recipe(replace(config, init=InitConfig(freeze="tail")), model=Model(init, apply), image_shape=(8, 8, 1))
