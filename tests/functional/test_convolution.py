"""How convolutions are spelled on each platform; what they compute is tested with `layers` and `bilinear`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.sharding import PartitionSpec as P

from fmnist_jax.functional.convolution import conv, conv_mean, conv_windows, convolve
from tests.functional.test_bilinear import KERNEL, MANY_KERNELS, MANY_X, Conv, X, draw, gradient


def test_no_grouped_convolution_is_left_on_a_cpu_which_is_slow_at_them() -> None:
    def lowered(conv: Conv) -> str:
        both = jax.vmap(lambda *both: gradient(conv, *both))
        return jax.jit(both).lower(MANY_X[0], MANY_KERNELS[0]).as_text()

    assert "group_count = 3" in lowered(convolve)
    assert "group_count = 3" not in lowered(conv)


@pytest.mark.parametrize("platform", ["tpu", "cuda", "rocm"])
def test_other_platforms_get_the_spelling_that_they_know(platform: str) -> None:
    def lowered(conv: Conv) -> str:
        traced = jax.jit(lambda *both: gradient(conv, *both)).trace(X, KERNEL)
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert lowered(conv).count("stablehlo.convolution") == lowered(convolve).count("stablehlo.convolution")
    assert "optimization_barrier" not in lowered(conv)


# Kernels of 3x3x64x64 take Winograd's form of small images, patches take one matrix product.
@pytest.mark.parametrize(
    ("operation", "shapes", "on_cpu"),
    [
        (conv, ((2, 8, 7, 64), (3, 3, 64, 65)), 0),
        (conv, ((2, 9, 7, 64), (3, 3, 64, 64)), 3),
        (conv, ((2, 7, 7, 63), (3, 3, 63, 64)), 3),
        (conv, ((2, 7, 7, 64), (5, 5, 64, 64)), 3),
        (conv_mean, ((2, 14, 14, 3), (3, 3, 3, 5)), 0),
        (conv_windows, ((2, 28, 28, 1), (3, 3, 1, 4)), 0),
    ],
    ids=["winograd", "many pixels", "few channels", "larger kernel", "means", "windows"],
)
def test_matrix_products_are_for_a_cpu_alone(operation: Conv, shapes: Any, on_cpu: int) -> None:
    traced = jax.jit(lambda *both: gradient(operation, *both)).trace(*(draw(shape, 0) for shape in shapes))
    convolutions = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")
        for platform in ("cpu", "tpu", "cuda", "rocm")
    }
    assert convolutions == {"cpu": on_cpu, "tpu": 3, "cuda": 3, "rocm": 3}


def test_the_spelling_of_a_cpu_does_not_hang_on_what_the_default_platform_is() -> None:
    both: tuple[Array, Array] = (jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 1)))
    several = jax.jit(conv).trace(*both).lower(lowering_platforms=("cpu", "tpu")).as_text()
    assert several.count("stablehlo.convolution") == 2


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_under_shard_map_every_platform_gets_its_gradients(platform: str) -> None:
    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
    x, kernel = jax.ShapeDtypeStruct((4, 6, 6, 2), jnp.float32), jax.ShapeDtypeStruct((3, 3, 2, 3), jnp.float32)

    def gradients(x: Array, kernel: Array) -> tuple[Array, Array]:
        return jax.grad(lambda x, kernel: conv(x, kernel).sum(), (0, 1))(x, kernel)

    sharded = jax.shard_map(gradients, mesh=mesh, in_specs=(P("data"), P()), out_specs=(P("data"), P()))
    text = jax.jit(sharded).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") >= 2


@pytest.mark.parametrize("shape", [(3, 7, 4, 1), (1, 1, 1, 1)])
def test_images_of_one_channel_are_convolved_without_a_convolution(shape: tuple[int, ...]) -> None:
    x, kernel = draw(shape, 0), draw((3, 3, 1, 5), 1)
    assert "stablehlo.convolution" not in jax.jit(conv).lower(x, kernel).as_text()
    np.testing.assert_allclose(conv(x, kernel), convolve(x, kernel), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 64])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_spelling_of_a_cpu_holds_under_strict_dtype_promotion(channels: int, dtype: jnp.dtype) -> None:
    x, kernel = draw((2, 7, 4, channels), 0).astype(dtype), draw((3, 3, channels, 64), 1).astype(dtype)
    with jax.numpy_dtype_promotion("strict"):
        found, pull = jax.vjp(conv, x, kernel)
        gradients = pull(found)
    assert found.dtype == dtype
    assert [each.dtype for each in gradients] == [dtype, dtype]
