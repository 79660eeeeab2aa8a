"""What x64 mode leaves unchanged, and what it computes in double precision."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array

import fmnist_jax as fj

AUGMENTS: dict[str, fj.Augment] = {
    "flip": fj.random_flip,
    "crop": fj.make_random_crop(3),
    "rotation": fj.make_random_rotation(15.0),
    "erasing": fj.make_random_erasing(0.5),
    "cutout": fj.make_cutout(7),
}
MIXTURES = {"mixup": fj.make_mixup(0.4, 0.5), "cutmix": fj.make_cutmix(0.4, 0.5)}


def run_in_both_precisions(draw: Callable[[], Any]) -> tuple[Any, Any]:
    """The results with x64 off and on; in x64 mode, implicit promotion is an error."""
    single = jax.jit(draw)()
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        return single, jax.jit(draw)()


def assert_same(single: Any, double: Any) -> None:
    assert jax.tree.map(lambda leaf: leaf.dtype, double) == jax.tree.map(lambda leaf: leaf.dtype, single)
    jax.tree.map(np.testing.assert_array_equal, double, single)


def test_batch_order_is_identical_in_x64(key: Array, batch: fj.Batch) -> None:
    data = jax.tree.map(jnp.asarray, batch)
    assert_same(*run_in_both_precisions(lambda: fj.batch_indices(key, 3, 8, 23)))
    assert_same(*run_in_both_precisions(lambda: fj.sample_mirrored_batch(data, key, 3, 8)))


@pytest.mark.parametrize("name", AUGMENTS)
def test_augmentations_are_identical_in_x64(name: str, batch: fj.Batch, key: Array) -> None:
    assert_same(*run_in_both_precisions(lambda: AUGMENTS[name](key, jnp.asarray(batch.images))))


@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_and_targets_are_identical_in_x64(name: str, batch: fj.Batch, key: Array) -> None:
    def mix() -> Any:
        images, weights = MIXTURES[name](key, fj.normalize(jnp.asarray(batch.images)), jnp.asarray(batch.labels))
        return images, fj.smoothed(weights, 0.1)

    assert_same(*run_in_both_precisions(mix))


@pytest.mark.slow
def test_float32_recipe_trains_alike_in_x64(batch: fj.Batch, key: Array) -> None:
    recipe = fj.make_recipe(
        fj.Config(
            model=fj.ModelConfig(family="plain", widths=(4, 4), depths=(1, 1), dropout=0.5),
            augment=fj.AugmentConfig(crop_padding=2, cutmix_alpha=1.0),
            train=fj.TrainConfig(average_decay=0.9),
        )
    )
    chunk = fj.make_train_chunk(recipe.step, batch_size=4, max_steps=3, sample=recipe.sample)
    (state, metrics), (wide_state, wide_metrics) = run_in_both_precisions(
        lambda: chunk(recipe.init(key), jax.tree.map(jnp.asarray, batch), jnp.int32(3))
    )
    assert (wide_metrics.loss_sum.dtype, wide_metrics.confusion.dtype) == (jnp.float32, jnp.int32)
    np.testing.assert_allclose(wide_metrics.loss_sum, metrics.loss_sum, rtol=1e-4)
    for wide_leaf, leaf in zip(jax.tree.leaves(wide_state.params), jax.tree.leaves(state.params), strict=True):
        assert wide_leaf.dtype == jnp.float32
        np.testing.assert_allclose(wide_leaf, leaf, rtol=1e-3, atol=1e-4)


def test_float64_model_trains_in_float64(batch: fj.Batch) -> None:
    def apply(params: Any, batch_stats: Any, images: Array, *, train: bool, key: Array | None = None) -> Any:
        return images.reshape(len(images), -1) @ params, batch_stats

    def init(key: Array) -> Any:
        return jnp.zeros((784, 10), jnp.float64), {}

    pixels = np.asarray(batch.images) / 255.0
    with jax.enable_x64(True):
        model = fj.Model(init, apply)
        state = fj.init_state(model, optax.sgd(1.0), jax.random.key(0))
        step = fj.make_train_step(model, optax.sgd(1.0), loss_fn=fj.make_cross_entropy(0.1))
        state, metrics = jax.jit(step)(state, fj.Batch(pixels, batch.labels))
    logit_gradient = 0.1 - (0.9 * np.eye(10)[batch.labels] + 0.01)
    np.testing.assert_allclose(state.params, -pixels.reshape(8, -1).T @ logit_gradient / 8, rtol=1e-12, atol=1e-14)
    assert (state.params.dtype, metrics.loss_sum.dtype) == (jnp.float64, jnp.float32)


def test_sweep_of_double_precision_numbers_keeps_the_dtypes_of_the_state(batch: fj.Batch) -> None:
    data = jax.tree.map(jnp.asarray, batch)

    def train(momentum: Array, clip_norm: Array, kept: Array) -> Any:
        config = fj.Config(
            model=fj.ModelConfig(family="plain", widths=(4,), depths=(1,), batch_norm_momentum=kept),  # type: ignore[arg-type]
            optim=fj.OptimConfig(momentum=momentum, clip_norm=clip_norm),  # type: ignore[arg-type]
        )
        recipe = fj.make_recipe(config)
        chunk = fj.make_train_chunk(recipe.step, batch_size=4, max_steps=2, sample=recipe.sample)
        return chunk(recipe.init(jax.random.key(0)), data, jnp.int32(2))

    with jax.enable_x64(True):
        halves = jnp.array([0.5, 0.9])
        assert halves.dtype == jnp.float64
        state, _ = jax.jit(jax.vmap(train))(halves, 2 * halves, halves)
    floats = [leaf.dtype for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert set(floats) == {jnp.dtype(jnp.float32)}
