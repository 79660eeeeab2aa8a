from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from fmnist_jax.functional.channel_sums import channel_spread, channel_sum, product_with_ones, sum_on_cpu

# On either side of where a CPU's spelling changes.
SHAPES = [(5, 8, 3, 2), (5, 9, 3, 2), (5, 14, 9, 2), (6, 15, 16, 3), (1, 20, 1, 1)]


def draw(*shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("total", [channel_sum, sum_on_cpu, product_with_ones])
def test_a_sum_is_that_of_numpy_in_float64(total: Any, shape: tuple[int, ...]) -> None:
    x = 100 + draw(*shape)
    expected = np.asarray(x, np.float64).sum((0, 1, 2), keepdims=True)
    np.testing.assert_allclose(jax.jit(total)(x), expected, rtol=3e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_is_the_transpose_of_the_other(shape: tuple[int, ...]) -> None:
    x, values = draw(*shape), draw(1, 1, 1, shape[3])

    def spread(values: Array) -> Array:
        return channel_spread(values, shape)

    np.testing.assert_array_equal(spread(values), np.broadcast_to(values, shape))
    (of_sum,) = jax.linear_transpose(channel_sum, x)(values)
    np.testing.assert_array_equal(of_sum, np.broadcast_to(values, shape))
    (of_spread,) = jax.linear_transpose(spread, values)(x)
    np.testing.assert_allclose(of_spread, x.sum((0, 1, 2), keepdims=True), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_derivatives_of_both_orders_and_both_modes_agree_with_plain_sums(shape: tuple[int, ...]) -> None:
    x, tangent = draw(*shape), jnp.cos(draw(*shape))

    pixels = x[..., 0].size

    def ours(x: Array) -> Array:
        return jnp.sum(jnp.exp(x) * channel_spread(jnp.tanh(channel_sum(x) / pixels), shape))

    def plain(x: Array) -> Array:
        return jnp.sum(jnp.exp(x) * jnp.tanh(x.mean((0, 1, 2), keepdims=True)))

    for derive in (jax.grad, lambda f: lambda x: jax.jvp(jax.grad(f), (x,), (tangent,))[1]):
        np.testing.assert_allclose(jax.jit(derive(ours))(x), jax.jit(derive(plain))(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 2, 4])
def test_mapped_over_models_along_any_axis(axis: int) -> None:
    x = jnp.moveaxis(draw(3, 2, 16, 4, 5), 0, axis)
    sums = jax.vmap(channel_sum, in_axes=axis)(x)
    np.testing.assert_allclose(sums, jnp.moveaxis(x, axis, 0).sum((1, 2, 3), keepdims=True), rtol=1e-4, atol=1e-4)
    spread = jax.vmap(lambda values: channel_spread(values, (2, 16, 4, 5)))(sums)
    np.testing.assert_array_equal(spread, np.broadcast_to(sums, (3, 2, 16, 4, 5)))


@pytest.mark.parametrize(("platform", "multiplies"), [("cpu", jax.__version_info__ < (0, 12)), ("cuda", False)])
def test_only_a_cpu_multiplies_by_ones(platform: str, multiplies: bool) -> None:
    program = jax.jit(channel_sum).trace(draw(2, 16, 16, 3)).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.dot_general") == multiplies
