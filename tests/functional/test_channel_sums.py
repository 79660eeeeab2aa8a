"""Both sums and their transpose against NumPy and autodiff, in either spelling."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import Array

from fmnist_jax.functional import channel_sums as module
from fmnist_jax.functional.channel_sums import channel_affine, channel_sums

# Pixels that are groups of 16, 14, 7 and 1, the last because their number is a prime; no image at all.
SHAPES = [(5, 8, 6, 2), (6, 14, 14, 3), (3, 7, 5, 2), (2, 19, 1, 3), (4, 1, 1, 5), (0, 4, 4, 2)]


def draw(*shape: int, seed: int = 0) -> Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def expected(x: Array, factor: Array) -> np.ndarray:
    wide, wide_factor = np.asarray(x, np.float64), np.asarray(factor, np.float64)
    return np.stack([wide.sum((0, 1, 2), keepdims=True), (wide * wide_factor).sum((0, 1, 2), keepdims=True)])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("sums", [channel_sums, module._sums, module._sums_on_cpu])
def test_the_sums_are_those_of_numpy_in_float64(sums: Any, shape: tuple[int, ...]) -> None:
    x, factor = 100 + draw(*shape), 2 + draw(*shape, seed=1)
    np.testing.assert_allclose(jax.jit(sums)(x, factor), expected(x, factor), rtol=3e-6)


@settings(deadline=None, max_examples=10)  # each compiles a program
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40), st.integers(1, 3))
def test_every_number_of_images_and_pixels_is_summed(batch: int, height: int, width: int, channels: int) -> None:
    x, factor = draw(batch, height, width, channels), draw(batch, height, width, channels, seed=1)
    np.testing.assert_allclose(jax.jit(channel_sums)(x, factor), expected(x, factor), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_is_the_transpose_of_the_other(shape: tuple[int, ...]) -> None:
    x, factor, coefficients = draw(*shape), draw(*shape, seed=1), draw(2, 1, 1, 1, shape[3], seed=2)
    lines = channel_affine(coefficients, factor)
    np.testing.assert_allclose(lines, coefficients[0] + coefficients[1] * factor, rtol=1e-6)
    (of_sums,) = jax.jit(jax.linear_transpose(lambda x: channel_sums(x, factor), x))(coefficients)
    np.testing.assert_array_equal(of_sums, lines)
    (of_lines,) = jax.jit(jax.linear_transpose(lambda c: channel_affine(c, factor), coefficients))(x)
    np.testing.assert_array_equal(of_lines, jax.jit(channel_sums)(x, factor))


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0]], ids=str)
def test_derivatives_in_both_arguments_of_both_orders_and_modes_agree_with_plain_sums(shape: tuple[int, ...]) -> None:
    operands, tangents = (draw(*shape), draw(*shape, seed=1)), (draw(*shape, seed=2), draw(*shape, seed=3))
    pixels = operands[0][..., 0].size

    def ours(x: Array, factor: Array) -> Array:
        return jnp.sum(jnp.exp(x) * channel_affine(jnp.tanh(channel_sums(x, factor) / pixels), jnp.sin(factor)))

    def plain(x: Array, factor: Array) -> Array:
        first, second = (jnp.tanh(values.mean((0, 1, 2), keepdims=True)) for values in (x, x * factor))
        return jnp.sum(jnp.exp(x) * (first + second * jnp.sin(factor)))

    def gradient(function: Any) -> Any:
        return jax.grad(function, (0, 1))

    def hessian_product(function: Any) -> Any:
        return lambda *operands: jax.jvp(gradient(function), operands, tangents)[1]

    for derive in (gradient, hessian_product):
        for got, wanted in zip(jax.jit(derive(ours))(*operands), jax.jit(derive(plain))(*operands), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 2, 4])
def test_mapped_over_models_along_any_axis(axis: int) -> None:
    many, factor = draw(3, 2, 16, 4, 5), draw(2, 16, 4, 5, seed=1)
    sums = jax.vmap(channel_sums, in_axes=(axis, None))(jnp.moveaxis(many, 0, axis), factor)
    lines = jax.vmap(channel_affine, in_axes=(0, None))(sums, factor)
    for index, x in enumerate(many):
        np.testing.assert_allclose(sums[index], expected(x, factor), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(lines[index], channel_affine(sums[index], factor))


def of_both(x: Array, factor: Array) -> Array:
    """A function of both operands in which each rule of derivation has a part."""
    return jnp.sum(jnp.sin(channel_affine(jnp.tanh(channel_sums(x, factor) / 10), x * factor)))


gradients_of_both = jax.jit(jax.grad(of_both, (0, 1)))


@pytest.mark.parametrize("in_axes", [(0, 0), (0, None), (None, 0)])
def test_gradients_over_models_are_those_of_each_model(in_axes: tuple[int | None, int | None]) -> None:
    operands = [draw(3, 2, 4, 3, 5, seed=seed)[slice(None) if axis == 0 else 0] for seed, axis in enumerate(in_axes)]
    of_models = jax.jit(jax.vmap(jax.grad(of_both, (0, 1)), in_axes))(*operands)
    of_sum = jax.jit(jax.grad(lambda *both: jax.vmap(of_both, in_axes)(*both).sum(), (0, 1)))(*operands)
    each = [
        gradients_of_both(*(x[model] if axis == 0 else x for x, axis in zip(operands, in_axes, strict=True)))
        for model in range(3)
    ]
    for place, axis in enumerate(in_axes):
        expected = jnp.stack([gradients[place] for gradients in each])
        np.testing.assert_allclose(of_models[place], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(of_sum[place], expected if axis == 0 else expected.sum(0), rtol=1e-4, atol=1e-5)


def test_gradients_over_models_of_models() -> None:
    x, factor = draw(2, 3, 1, 4, 3, 2), draw(3, 1, 4, 3, 2, seed=1)
    gradients = jax.jit(jax.vmap(jax.vmap(jax.grad(of_both, (0, 1))), (0, None)))(x, factor)
    for index in np.ndindex(2, 3):
        each = gradients_of_both(x[index], factor[index[1]])
        for got, expected in zip(gradients, each, strict=True):
            np.testing.assert_allclose(got[index], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("platform", "reductions"), [("cpu", 3), ("cuda", 2), ("tpu", 2)])
def test_only_a_cpu_sums_both_at_once(platform: str, reductions: int) -> None:
    images = draw(2, 16, 16, 3)
    program = jax.jit(channel_sums).trace(images, images).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.reduce(") == reductions
