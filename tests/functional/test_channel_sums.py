"""Both sums and their transpose against NumPy and autodiff, in either implementation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import Array

from fmnist_jax.functional import channel_sums as module
from fmnist_jax.functional.channel_sums import channel_affine, channel_sums

# Pixels in groups of 16, 14, 7 and 1, the last because their number is prime; an empty batch.
SHAPES = [(5, 8, 6, 2), (6, 14, 14, 3), (3, 7, 5, 2), (2, 19, 1, 3), (4, 1, 1, 5), (0, 4, 4, 2)]


def draw(*shape: int, seed: int = 0) -> Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def numpy_sums(x: Array, factor: Array) -> np.ndarray:
    x64, factor64 = np.asarray(x, np.float64), np.asarray(factor, np.float64)
    return np.stack([x64.sum((0, 1, 2), keepdims=True), (x64 * factor64).sum((0, 1, 2), keepdims=True)])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("sums", [channel_sums, module._sums, module._sums_on_cpu])
def test_sums_equal_numpy_in_float64(sums: Any, shape: tuple[int, ...]) -> None:
    x, factor = 100 + draw(*shape), 2 + draw(*shape, seed=1)
    np.testing.assert_allclose(jax.jit(sums)(x, factor), numpy_sums(x, factor), rtol=3e-6)


@settings(deadline=None, max_examples=10)  # each compiles a program
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40), st.integers(1, 3))
def test_sums_for_any_number_of_images_and_pixels_equal_numpy(
    batch: int, height: int, width: int, channels: int
) -> None:
    x, factor = draw(batch, height, width, channels), draw(batch, height, width, channels, seed=1)
    np.testing.assert_allclose(jax.jit(channel_sums)(x, factor), numpy_sums(x, factor), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_channel_sums_and_channel_affine_are_transposes_of_each_other(shape: tuple[int, ...]) -> None:
    x, factor, coefficients = draw(*shape), draw(*shape, seed=1), draw(2, 1, 1, 1, shape[3], seed=2)
    affine = channel_affine(coefficients, factor)
    np.testing.assert_allclose(affine, coefficients[0] + coefficients[1] * factor, rtol=1e-6)
    (sums_transpose,) = jax.jit(jax.linear_transpose(lambda x: channel_sums(x, factor), x))(coefficients)
    np.testing.assert_array_equal(sums_transpose, affine)
    (affine_transpose,) = jax.jit(jax.linear_transpose(lambda c: channel_affine(c, factor), coefficients))(x)
    np.testing.assert_array_equal(affine_transpose, jax.jit(channel_sums)(x, factor))


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0]], ids=str)
def test_gradients_and_hessian_products_in_both_arguments_equal_those_of_plain_sums(shape: tuple[int, ...]) -> None:
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
        for actual, expected in zip(jax.jit(derive(ours))(*operands), jax.jit(derive(plain))(*operands), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 2, 4])
def test_vmap_along_any_axis_equals_one_call_per_model(axis: int) -> None:
    stacked, factor = draw(3, 2, 16, 4, 5), draw(2, 16, 4, 5, seed=1)
    sums = jax.vmap(channel_sums, in_axes=(axis, None))(jnp.moveaxis(stacked, 0, axis), factor)
    affine = jax.vmap(channel_affine, in_axes=(0, None))(sums, factor)
    for index, x in enumerate(stacked):
        np.testing.assert_allclose(sums[index], numpy_sums(x, factor), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(affine[index], channel_affine(sums[index], factor))


def scalar_function(x: Array, factor: Array) -> Array:
    """A scalar function of both operands that uses every differentiation rule."""
    return jnp.sum(jnp.sin(channel_affine(jnp.tanh(channel_sums(x, factor) / 10), x * factor)))


compiled_gradients = jax.jit(jax.grad(scalar_function, (0, 1)))


@pytest.mark.parametrize("in_axes", [(0, 0), (0, None), (None, 0)])
def test_vmapped_gradients_equal_those_of_each_model(in_axes: tuple[int | None, int | None]) -> None:
    operands = [draw(3, 2, 4, 3, 5, seed=seed)[slice(None) if axis == 0 else 0] for seed, axis in enumerate(in_axes)]
    mapped = jax.jit(jax.vmap(jax.grad(scalar_function, (0, 1)), in_axes))(*operands)
    of_sum = jax.jit(jax.grad(lambda *args: jax.vmap(scalar_function, in_axes)(*args).sum(), (0, 1)))(*operands)
    per_model = [
        compiled_gradients(*(x[model] if axis == 0 else x for x, axis in zip(operands, in_axes, strict=True)))
        for model in range(3)
    ]
    for position, axis in enumerate(in_axes):
        expected = jnp.stack([gradients[position] for gradients in per_model])
        np.testing.assert_allclose(mapped[position], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(of_sum[position], expected if axis == 0 else expected.sum(0), rtol=1e-4, atol=1e-5)


def test_nested_vmapped_gradients_equal_those_of_each_model() -> None:
    x, factor = draw(2, 3, 1, 4, 3, 2), draw(3, 1, 4, 3, 2, seed=1)
    gradients = jax.jit(jax.vmap(jax.vmap(jax.grad(scalar_function, (0, 1))), (0, None)))(x, factor)
    for index in np.ndindex(2, 3):
        single = compiled_gradients(x[index], factor[index[1]])
        for actual, expected in zip(gradients, single, strict=True):
            np.testing.assert_allclose(actual[index], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("platform", "reductions"), [("cpu", 3), ("cuda", 2), ("tpu", 2)])
def test_only_the_cpu_lowering_uses_a_joint_reduction(platform: str, reductions: int) -> None:
    images = draw(2, 16, 16, 3)
    program = jax.jit(channel_sums).trace(images, images).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.reduce(") == reductions
