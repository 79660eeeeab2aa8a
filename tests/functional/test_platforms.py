"""Which spelling of an operation a program has, and that no preset's program for a TPU or a GPU has a CPU's."""

import re
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fmnist_jax as fj
from fmnist_jax.functional.platforms import platform_primitive

ELSEWHERE = ("tpu", "cuda", "rocm")
twice_p = platform_primitive("twice", on_cpu=lambda x, by: x * by, elsewhere=lambda x, **_: x + x)


@pytest.mark.parametrize(("platform", "spelling"), [("cpu", "multiply"), *((name, "add") for name in ELSEWHERE)])
def test_a_program_has_the_spelling_of_its_platform_alone(platform: str, spelling: str) -> None:
    traced = jax.jit(lambda x: twice_p.bind(x, by=2)).trace(jnp.ones(3))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert re.findall(r"stablehlo\.(multiply|add|case)", text) == [spelling]


def test_outside_a_program_the_spelling_is_that_of_where_the_array_lies() -> None:
    np.testing.assert_array_equal(twice_p.bind(jnp.ones(3), by=5), 5 * np.ones(3))


@cache
def programs(name: str) -> dict[str, jax.stages.Traced]:
    """The training chunk, the evaluation step and the prediction of a preset, before they are lowered."""
    config = fj.PRESETS[name]
    depths = tuple(min(depth, 2) for depth in config.model.depths)  # whatever follows is a second block again
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


LONGEST_CONSTANT = 1_000  # characters; those of Winograd's form are longer
NHWC = "dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"


@pytest.mark.parametrize("preset", sorted(fj.PRESETS))
def test_no_spelling_of_a_cpu_is_left_in_what_is_lowered_for_others(preset: str) -> None:
    config, traced = fj.PRESETS[preset], programs(preset)
    kernels = [leaf for leaf in jax.tree.leaves(traced["prediction"].in_avals) if leaf.ndim == 4 and leaf.size]
    layers = len(kernels) - 1  # but for the images
    # The loop over the steps, the walk of `sampling`, and the two rejections of Beta, which shares are drawn from.
    loops = 2 if config.augment.mixup_alpha == config.augment.cutmix_alpha == 0 else 4
    for name, program in traced.items():
        # Each layer's forward pass and two gradients, of which the first layer has no use for that of its images.
        convolutions = 3 * layers - 1 if name == "chunk" else layers
        # A primitive has one spelling for all of these (above), so one preset is enough to show it of whole programs.
        for platform in ELSEWHERE if preset == "fast" else ("tpu",):
            text = program.lower(lowering_platforms=(platform,)).as_text()
            assert not re.search("case|optimization_barrier|custom_call", text), (name, platform)
            assert text.count("stablehlo.while") == (loops if name == "chunk" else 0), (name, platform)
            assert max(map(len, re.findall(r"dense<.*?>", text))) < LONGEST_CONSTANT, (name, platform)
            assert text.count("stablehlo.convolution") == convolutions, (name, platform)
            assert text.count(NHWC) >= layers, (name, platform)


def test_a_cpu_has_its_own_spelling() -> None:
    text = programs("standard")["chunk"].lower(lowering_platforms=("cpu",)).as_text()
    assert "optimization_barrier" in text
    assert text.count("stablehlo.convolution") < 20
    assert max(map(len, re.findall(r"dense<.*?>", text))) > LONGEST_CONSTANT
