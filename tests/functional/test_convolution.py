"""How convolutions are lowered on each platform; their values are tested with `layers` and `bilinear`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.sharding import PartitionSpec as P

from fmnist_jax.functional.convolution import conv, conv_mean, conv_windows, convolve
from tests.functional.test_bilinear import KERNEL, MANY_KERNELS, MANY_X, Conv, X, draw, gradient


def test_vmapped_gradients_on_cpu_contain_no_grouped_convolution() -> None:
    def lowered(conv: Conv) -> str:
        mapped = jax.vmap(lambda *operands: gradient(conv, *operands))
        return jax.jit(mapped).lower(MANY_X[0], MANY_KERNELS[0]).as_text()

    assert "group_count = 3" in lowered(convolve)
    assert "group_count = 3" not in lowered(conv)


@pytest.mark.parametrize("platform", ["tpu", "cuda", "rocm"])
def test_other_platforms_lower_to_plain_convolutions_without_barriers(platform: str) -> None:
    def lowered(conv: Conv) -> str:
        traced = jax.jit(lambda *operands: gradient(conv, *operands)).trace(X, KERNEL)
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert lowered(conv).count("stablehlo.convolution") == lowered(convolve).count("stablehlo.convolution")
    assert "optimization_barrier" not in lowered(conv)


# Kernels of 3x3x64x64 use Winograd's algorithm on small images, patches use one matrix product.
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
def test_only_the_cpu_lowering_replaces_convolutions_with_matrix_products(
    operation: Conv, shapes: Any, on_cpu: int
) -> None:
    traced = jax.jit(lambda *operands: gradient(operation, *operands)).trace(*(draw(shape, 0) for shape in shapes))
    convolutions = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")
        for platform in ("cpu", "tpu", "cuda", "rocm")
    }
    assert convolutions == {"cpu": on_cpu, "tpu": 3, "cuda": 3, "rocm": 3}


def test_multi_platform_lowering_has_one_convolution_per_platform() -> None:
    operands: tuple[Array, Array] = (jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 1)))
    text = jax.jit(conv).trace(*operands).lower(lowering_platforms=("cpu", "tpu")).as_text()
    assert text.count("stablehlo.convolution") == 2


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_gradients_under_shard_map_lower_on_every_platform(platform: str) -> None:
    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
    x, kernel = jax.ShapeDtypeStruct((4, 6, 6, 2), jnp.float32), jax.ShapeDtypeStruct((3, 3, 2, 3), jnp.float32)

    def gradients(x: Array, kernel: Array) -> tuple[Array, Array]:
        return jax.grad(lambda x, kernel: conv(x, kernel).sum(), (0, 1))(x, kernel)

    sharded = jax.shard_map(gradients, mesh=mesh, in_specs=(P("data"), P()), out_specs=(P("data"), P()))
    text = jax.jit(sharded).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") >= 2


@pytest.mark.parametrize("shape", [(3, 7, 4, 1), (1, 1, 1, 1)])
def test_single_channel_conv_lowers_without_a_convolution(shape: tuple[int, ...]) -> None:
    x, kernel = draw(shape, 0), draw((3, 3, 1, 5), 1)
    assert "stablehlo.convolution" not in jax.jit(conv).lower(x, kernel).as_text()
    np.testing.assert_allclose(conv(x, kernel), convolve(x, kernel), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 64])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_conv_on_cpu_keeps_dtypes_under_strict_dtype_promotion(channels: int, dtype: jnp.dtype) -> None:
    x, kernel = draw((2, 7, 4, channels), 0).astype(dtype), draw((3, 3, channels, 64), 1).astype(dtype)
    with jax.numpy_dtype_promotion("strict"):
        y, vjp = jax.vjp(conv, x, kernel)
        gradients = vjp(y)
    assert y.dtype == dtype
    assert [leaf.dtype for leaf in gradients] == [dtype, dtype]
