"""Platform-specific implementations, and that no preset lowered for a TPU or a GPU contains a CPU's."""

import re
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import fmnist_jax as fj
from fmnist_jax.functional.platforms import platform_primitive

OTHER_PLATFORMS = ("tpu", "cuda", "rocm")
twice_p = platform_primitive("twice", on_cpu=lambda x, by: x * by, elsewhere=lambda x, **_: x + x)


@pytest.mark.parametrize(("platform", "operation"), [("cpu", "multiply"), *((name, "add") for name in OTHER_PLATFORMS)])
def test_lowering_contains_only_the_implementation_of_its_platform(platform: str, operation: str) -> None:
    traced = jax.jit(lambda x: twice_p.bind(x, by=2)).trace(jnp.ones(3))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert re.findall(r"stablehlo\.(multiply|add|case)", text) == [operation]


def test_eager_call_uses_the_implementation_for_the_device_of_the_array() -> None:
    np.testing.assert_array_equal(twice_p.bind(jnp.ones(3), by=5), 5 * np.ones(3))


def test_result_is_weakly_typed_where_that_of_the_plain_operation_is() -> None:
    def promoted_dtype(operation: Any, x: Array) -> jnp.dtype:
        return jax.eval_shape(lambda x: operation(x) + jnp.ones((), jnp.bfloat16), x).dtype

    weak, images = jnp.full(3, 1.0), jnp.full((1, 8, 8, 1), 1.0)
    assert (weak.weak_type, images.weak_type) == (True, True)
    assert promoted_dtype(lambda x: x + x, weak) == jnp.bfloat16
    assert promoted_dtype(lambda x: twice_p.bind(x, by=2), weak) == jnp.bfloat16
    assert promoted_dtype(lambda x: fj.conv(x, jnp.ones((3, 3, 1, 4))), images) == jnp.float32


@cache
def traced_programs(name: str) -> dict[str, jax.stages.Traced]:
    """The training chunk, the evaluation step and the prediction of a preset, before they are lowered."""
    config = fj.PRESETS[name]
    depths = tuple(min(depth, 2) for depth in config.model.depths)  # further blocks repeat the second one
    recipe = fj.make_recipe(replace(config, model=replace(config.model, depths=depths)))
    state = jax.eval_shape(recipe.init, jax.random.key(0))
    rows = config.train.batch_size
    images, labels = np.zeros((2000, 28, 28, 1), np.uint8), np.zeros(2000, np.int32)
    data, batch = fj.Batch(images, labels), fj.Batch(images[:rows], labels[:rows])
    predict = fj.make_predict(recipe.model)
    chunk = fj.make_train_chunk(recipe.step, rows, 4, sample=recipe.sample)
    weights = state.params, state.batch_stats
    return {
        "chunk": jax.jit(chunk).trace(state, data, jax.ShapeDtypeStruct((), jnp.int32)),
        "evaluation": jax.jit(fj.make_eval_step(predict)).trace(*weights, batch),
        "prediction": jax.jit(predict).trace(*weights, batch.images),
    }


MAX_CONSTANT_LENGTH = 1_000  # characters; Winograd's transforms are longer
NHWC = "dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"


@pytest.mark.parametrize("preset", sorted(fj.PRESETS))
def test_presets_lowered_for_other_platforms_contain_no_cpu_implementation(preset: str) -> None:
    config, traced = fj.PRESETS[preset], traced_programs(preset)
    kernels = [leaf for leaf in jax.tree.leaves(traced["prediction"].in_avals) if leaf.ndim == 4 and leaf.size]
    num_layers = len(kernels) - 1  # without the images
    # The loop over the steps, the one of `sampling`, and two rejection loops to draw mixing weights from Beta.
    num_loops = 2 if config.augment.mixup_alpha == config.augment.cutmix_alpha == 0 else 4
    for name, program in traced.items():
        # Each layer's forward pass and two gradients; the first layer does not need that of its images.
        num_convolutions = 3 * num_layers - 1 if name == "chunk" else num_layers
        # A primitive has one implementation for all of these (see above), so one preset is enough for all platforms.
        for platform in OTHER_PLATFORMS if preset == "fast" else ("tpu",):
            text = program.lower(lowering_platforms=(platform,)).as_text()
            assert not re.search("case|optimization_barrier|custom_call", text), (name, platform)
            assert text.count("stablehlo.while") == (num_loops if name == "chunk" else 0), (name, platform)
            assert max(map(len, re.findall(r"dense<.*?>", text))) < MAX_CONSTANT_LENGTH, (name, platform)
            assert text.count("stablehlo.convolution") == num_convolutions, (name, platform)
            assert text.count(NHWC) >= num_layers, (name, platform)


def test_cpu_lowering_contains_the_cpu_implementations() -> None:
    text = traced_programs("standard")["chunk"].lower(lowering_platforms=("cpu",)).as_text()
    assert "optimization_barrier" in text
    assert text.count("stablehlo.convolution") < 20
    assert max(map(len, re.findall(r"dense<.*?>", text))) > MAX_CONSTANT_LENGTH
