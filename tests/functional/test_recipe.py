"""The recipe of a configuration against the same parts composed by hand."""

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


def lowered_text(function: Callable[..., Any], *operands: Any) -> str:
    """The lowered program of a function, under a name that does not reveal which function it is."""

    def anonymous(*operands: Any) -> Any:
        return function(*operands)

    return jax.jit(anonymous).lower(*operands).as_text()


def test_recipe_lowers_to_the_same_programs_as_its_parts(batch: Batch, key: Array) -> None:
    model = make_model(CONFIG.model)
    optimizer = make_optimizer(CONFIG.optim, make_schedule(CONFIG.optim, CONFIG.total_steps))
    augment, mix = make_augment(CONFIG.augment), make_mix(CONFIG.augment)
    step = make_train_step(model, optimizer, loss_fn=make_cross_entropy(0.2), augment=augment, mix=mix)
    recipe = make_recipe(CONFIG)

    def init(key: Array) -> Any:
        return start_average(init_state(model, optimizer, key))

    # Identical programs give identical results, and comparing them saves compiling both.
    assert lowered_text(recipe.init, key) == lowered_text(init, key)
    steps = (recipe.step, make_averaging_step(step, 0.5), make_averaging_step(step, 0.4))
    actual, expected, other = (lowered_text(function, jax.eval_shape(init, key), batch) for function in steps)
    assert actual == expected != other


def test_averages_are_kept_only_if_configured(key: Array) -> None:
    recipe = make_recipe(replace(CONFIG, train=replace(CONFIG.train, average_decay=0.0)))
    assert jax.eval_shape(recipe.init, key).averages is None
    assert jax.eval_shape(make_recipe(CONFIG).init, key).averages is not None


def test_alternating_flip_is_applied_when_batches_are_sampled() -> None:
    assert make_recipe(CONFIG).sample is sample_batch
    alternating = replace(CONFIG, augment=AugmentConfig(flip="alternating"))
    assert make_recipe(alternating).sample is sample_mirrored_batch


def test_step_with_all_features_keeps_dtypes_under_strict_dtype_promotion(batch: Batch, key: Array) -> None:
    augment = AugmentConfig(
        crop_padding=2, rotation=9.0, erase_probability=0.5, cutout=5, cutmix_alpha=1.0, photo_probability=0.5
    )
    model = ModelConfig(family="resnet", widths=(3, 4), depths=(2, 1), stochastic_depth=0.1, dtype="bfloat16")
    recipe = make_recipe(replace(CONFIG, augment=augment, model=model))
    state = jax.eval_shape(recipe.init, key)
    with jax.numpy_dtype_promotion("strict"):
        after, _ = jax.eval_shape(recipe.step, state, batch)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_step_recomposed_from_the_parts_of_a_recipe_equals_its_step(decay: float, batch: Batch, key: Array) -> None:
    recipe = make_recipe(replace(CONFIG, train=replace(CONFIG.train, average_decay=decay)))
    state, descent = jax.jit(recipe.init)(key), make_descent(recipe.objective, recipe.optimizer)
    steps = (make_averaging_step(descent, decay) if decay else descent, recipe.step, recipe.make_step(recipe.objective))
    expected, recipe_step, remade_step = (lowered_text(step, state, batch) for step in steps)
    assert recipe_step == remade_step == expected
    jax.tree.map(np.testing.assert_array_equal, recipe.optimizer.init(state.params), state.opt_state)


def test_given_parts_are_used_in_everything_made_of_them(batch: Batch, key: Array) -> None:
    config = replace(CONFIG, train=replace(CONFIG.train, average_decay=0.0))
    parts: dict[str, Any] = {"loss_fn": lambda logits, _: (logits**2).mean(-1), "augment": random_flip, "mix": unmixed}
    optimizer = optax.adam(0.1)
    recipe = make_recipe(config, model=LINEAR, optimizer=optimizer, schedule=optax.constant_schedule(0.1), **parts)
    state = jax.eval_shape(partial(init_state, LINEAR, optimizer), key)
    expected = make_train_step(LINEAR, optimizer, **parts)
    assert lowered_text(recipe.step, state, batch) == lowered_text(expected, state, batch)
    assert lowered_text(recipe.init, key) == lowered_text(partial(init_state, LINEAR, optimizer), key)
    assert (recipe.model, recipe.optimizer, recipe.schedule(3)) == (LINEAR, optimizer, 0.1)


def test_custom_model_is_frozen_by_its_own_names_and_takes_other_image_shapes(key: Array) -> None:
    def init(key: Array) -> Any:
        return {"body": {"w": jnp.ones((64, 3))}, "head": {"w": jnp.ones((3, 10))}}, {}

    def apply(params: Any, batch_stats: Any, images: Array, *, train: bool, key: Array | None = None) -> Any:
        return images.reshape(-1, 64) @ params["body"]["w"] @ params["head"]["w"], batch_stats

    # The default network has four stages, too many for 8x8 images.
    config = Config(init=InitConfig(freeze="body"), optim=OptimConfig(warmup=0.0))
    recipe = make_recipe(config, model=Model(init, apply), image_shape=(8, 8, 1))
    batch = Batch(np.full((2, 8, 8, 1), 99, np.uint8), np.arange(2))
    after, _ = jax.jit(recipe.step)(jax.jit(recipe.init)(key), batch)
    assert (after.params["body"]["w"] == 1).all()
    assert not (after.params["head"]["w"] == 1).all()
    with pytest.raises(ConfigError, match=r"'tail', which matches no parameter: choose one .* some of body/w, head/w"):
        make_recipe(replace(config, init=InitConfig(freeze="tail")), model=Model(init, apply), image_shape=(8, 8, 1))
