"""32x32 colour images of a hundred classes through every part of the package, as in research code."""

import itertools
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fmnist_jax as fj

pytestmark = pytest.mark.slow

_CLASSES = 100


@pytest.fixture(scope="module")
def images() -> fj.Dataset:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    return fj.Dataset(pixels, np.arange(200) % _CLASSES, tuple(f"class {number}" for number in range(_CLASSES)))


@pytest.mark.parametrize(
    ("config", "mix"),
    [
        (fj.ModelConfig(widths=(4, 6), depths=(1, 1), stem="full"), fj.make_mixup),
        (fj.ModelConfig(family="plain", widths=(4, 4, 4), depths=(1, 1, 1)), fj.make_cutmix),
    ],
)
def test_colour_images_are_trained_on_and_evaluated(images: fj.Dataset, config: fj.ModelConfig, mix: Any) -> None:
    model = fj.make_model(config, image_shape=images.image_shape, num_classes=images.num_classes)
    optimizer = optax.sgd(0.1)
    augment = fj.make_augment(fj.AugmentConfig(flip="random", crop_padding=2, rotation=9, cutout=4))
    mix_fn = mix(1.0, num_classes=images.num_classes)
    step = jax.jit(fj.make_train_step(model, optimizer, augment=augment, mix=mix_fn))
    state = jax.jit(lambda key: fj.init_state(model, optimizer, key))(jax.random.key(0))
    for batch in itertools.islice(fj.batches(images, state.key, batch_size=50), 2):
        state, metrics = step(state, batch)
    assert metrics.confusion.shape == (_CLASSES, _CLASSES)
    evaluate = jax.jit(fj.make_eval_step(fj.make_predict(model)))
    totals = fj.evaluate_batches(evaluate, state.params, state.batch_stats, fj.padded_batches(images, 90))
    assert fj.summarize(totals).examples == 200


def test_config_makes_a_recipe_for_colour_images(images: fj.Dataset) -> None:
    train, validation = fj.split(images, validation_size=100, seed=0)
    splits = fj.Splits(train, validation, images)
    network = fj.ModelConfig(widths=(4,), depths=(1,))
    config = fj.with_splits(fj.Config(model=network, augment=fj.AugmentConfig(mixup_alpha=1.0)), splits)
    recipe = fj.make_recipe(config, image_shape=images.image_shape, num_classes=images.num_classes)
    chunk = jax.jit(fj.make_train_chunk(recipe.step, 20, 5, sample=recipe.sample))
    state, metrics = chunk(jax.jit(recipe.init)(jax.random.key(0)), fj.Batch(train.images, train.labels), jnp.int32(5))
    assert (config.total_steps, int(state.step), int(metrics.confusion.sum())) == (24, 5, 100)


def test_inspection_figures_are_drawn_for_colour_images(images: fj.Dataset) -> None:
    data_shape: dict[str, Any] = {"image_shape": images.image_shape, "num_classes": images.num_classes}
    model = fj.make_model(config := fj.ModelConfig(widths=(4, 6), depths=(1, 1)), **data_shape)
    params, stats = jax.jit(model.init)(jax.random.key(0))
    saliency = jax.jit(fj.make_saliency(model))(params, stats, images.images[:3])
    layers, hidden = jax.jit(fj.make_activations(config, **data_shape))(
        params, stats, fj.normalize(jnp.asarray(images.images[:3]))
    )
    assert saliency.shape == (3, 32, 32)
    assert [layer.shape[1] for layer in layers] == [16, 8, 8]
    figures = [
        fj.filters(fj.first_filters(params)),
        fj.activation_maps(images.images[0], [np.asarray(layer[0]) for layer in layers], "one"),
        fj.saliency_maps(images.images[:3], np.asarray(saliency), images.class_names[:3]),
        fj.embedding_map(fj.principal_plane(np.asarray(hidden)), images.labels[:3], images.class_names),
        fj.labelled_rows(fj.augmentation_rows(jax.random.key(0), images.images[:3], images.labels[:3])),
    ]
    for figure in figures:
        assert figure.axes
        figure.draw_without_rendering()


@pytest.mark.parametrize("edge", [8, 9, 13])
@pytest.mark.parametrize("family", ["plain", "resnet"])
def test_small_images_are_accepted_while_every_stage_can_halve_them(edge: int, family: Any) -> None:
    config = fj.ModelConfig(family=family, widths=(4, 4, 4), depths=(1, 1, 1))
    model = fj.make_model(config, image_shape=(edge, edge + 1, 1), num_classes=2)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((2, edge, edge + 1, 1), jnp.float32)
    logits, _ = jax.eval_shape(partial(model.apply, train=True, key=jax.random.key(0)), *variables, images)
    assert logits.shape == (2, 2)
    with pytest.raises(fj.ConfigError, match=r"4 stages, which halve 8x9 to nothing: choose fewer"):
        fj.make_model(replace(config, widths=(4,) * 4, depths=(1,) * 4), image_shape=(8, 9, 1))
