"""`winograd_conv` against a direct convolution, its gradients against autodiff's, its identity against the algebra."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from fmnist_jax.functional.layers import conv
from fmnist_jax.functional.winograd import _transforms_of_axis, winograd_conv
from tests.functional.oracles import plain_conv

# [B, H, W, C_in, C_out]: one tile and several, sides that are and are not multiples of a tile, one pixel.
SHAPES = [(2, 7, 7, 3, 5), (1, 8, 4, 2, 2), (3, 3, 3, 4, 1), (2, 1, 1, 2, 3), (1, 5, 9, 1, 2)]


def draw(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch, height, width, inputs, outputs = shape
    rng = np.random.default_rng(seed)
    x, kernel = rng.normal(size=(batch, height, width, inputs)), rng.normal(size=(3, 3, inputs, outputs))
    return x, kernel, rng.normal(size=(batch, height, width, outputs))


@partial(jax.jit, static_argnums=0)
def value_and_gradients(function: Callable[..., Array], x: Array, kernel: Array, g: Array) -> tuple[Array, ...]:
    y, vjp = jax.vjp(function, x, kernel)
    return y, *vjp(g)


@pytest.mark.parametrize("shape", SHAPES)
def test_result_and_both_gradients_equal_the_direct_convolution_in_float64(shape: tuple[int, ...]) -> None:
    with jax.enable_x64(True):
        operands = [jnp.asarray(array) for array in draw(shape)]
        ours, expected = (value_and_gradients(function, *operands) for function in (winograd_conv, plain_conv))
        assert ours[0].dtype == jnp.float64
        for actual, desired in zip(ours, expected, strict=True):
            np.testing.assert_allclose(actual, desired, rtol=1e-11, atol=1e-11)


@settings(deadline=None, max_examples=8)  # each compiles two programs
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_every_size_up_to_nine_pixels_equals_the_direct_convolution(height: int, width: int, seed: int) -> None:
    x, kernel, _ = draw((2, height, width, 3, 2), seed)
    with jax.enable_x64(True):
        ours, expected = (jax.jit(f)(jnp.asarray(x), jnp.asarray(kernel)) for f in (winograd_conv, plain_conv))
    np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-11)


def test_float32_error_stays_close_to_rounding_error() -> None:
    x, kernel, _ = draw((4, 7, 7, 128, 64))
    with jax.enable_x64(True):
        exact = np.asarray(plain_conv(jnp.asarray(x), jnp.asarray(kernel)))
    y = jax.jit(winograd_conv)(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    assert y.dtype == jnp.float32
    assert np.abs(y - exact).max() < 2e-5 * np.abs(exact).max()


def test_complex_numbers_are_convolved_by_both_parts() -> None:
    rng = np.random.default_rng(0)
    x, kernel = (
        jnp.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape), jnp.complex64)
        for shape in ((2, 6, 6, 4), (3, 3, 4, 5))
    )
    np.testing.assert_allclose(winograd_conv(x, kernel), plain_conv(x, kernel), atol=1e-4)


@pytest.mark.parametrize("dtypes", [(jnp.int32, jnp.int32), (jnp.uint8, jnp.float32), (jnp.float32, jnp.int32)])
def test_integers_are_refused(dtypes: tuple[type, type]) -> None:
    with pytest.raises(ValueError, match="expected floats or complex numbers"):
        winograd_conv(jnp.ones((1, 4, 4, 2), dtypes[0]), jnp.ones((3, 3, 2, 2), dtypes[1]))


def test_bfloat16_keeps_its_dtype_and_transforms_in_float32() -> None:
    x, kernel, _ = (jnp.asarray(a, jnp.bfloat16) for a in draw((2, 7, 7, 16, 8)))
    y = jax.jit(winograd_conv)(x, kernel)
    expected = plain_conv(x.astype(jnp.float32), kernel.astype(jnp.float32))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize("size", [1, 4, 7, 10])
def test_transforms_satisfy_the_toom_cook_identity_with_zeros_beyond_the_edges(size: int) -> None:
    images, kernels, outputs = _transforms_of_axis(size)
    product = np.einsum("ipt,pk,ptj->ikj", outputs, kernels, images)
    expected = np.array([[[float(j == i + k - 1) for j in range(size)] for k in range(3)] for i in range(size)])
    np.testing.assert_allclose(product, expected, atol=1e-12)


def test_forward_mode_and_vmap_equal_those_of_the_direct_convolution() -> None:
    x, kernel, _ = draw((2, 7, 7, 3, 2))
    members = np.stack([kernel, 2 * kernel[::-1]])

    def jvp_and_vmap(function: Callable[..., Array], x: Array, kernel: Array, members: Array) -> tuple[Array, ...]:
        jvp = jax.jvp(function, (x, kernel), (jnp.cos(x), jnp.sin(kernel)))
        return *jvp, jax.vmap(function, in_axes=(None, 0))(x, members)

    with jax.enable_x64(True):
        operands = [jnp.asarray(array) for array in (x, kernel, members)]
        ours, expected = (
            jax.jit(partial(jvp_and_vmap, function))(*operands) for function in (winograd_conv, plain_conv)
        )
        for actual, desired in zip(ours, expected, strict=True):
            np.testing.assert_allclose(actual, desired, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("images", "kernel"), [((2, 5, 5, 3), (5, 5, 3, 4)), ((2, 5, 5, 3), (3, 3, 2, 4)), ((5, 5, 3), (3, 3, 3, 4))]
)
def test_other_shapes_are_rejected(images: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images \[.*\] and a kernel \[.*\]: expected .* and \[3, 3, C_in, C_out\]$"):
        winograd_conv(jnp.ones(images), jnp.ones(kernel))


def test_rows_stay_sharded_on_explicit_axes() -> None:
    x, kernel, _ = (array.astype(np.float32) for array in draw((4, 10, 12, 3, 4)))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:2])
    with jax.set_mesh(mesh):
        rows = jax.device_put(x, NamedSharding(mesh, P("data")))
        y = jax.jit(winograd_conv)(rows, jax.device_put(kernel, NamedSharding(mesh, P())))
        assert jax.typeof(y).sharding.spec[0] == "data"
    np.testing.assert_allclose(y, jax.jit(winograd_conv)(x, kernel), atol=1e-4)


def test_winograd_refuses_a_kernel_of_another_dtype_and_takes_images_without_pixels() -> None:
    with pytest.raises(ValueError, match="images are float32 and the kernel is complex64: expected the same"):
        winograd_conv(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1), jnp.complex64))
    assert winograd_conv(jnp.ones((2, 0, 4, 5)), jnp.ones((3, 3, 5, 7))).shape == (2, 0, 4, 7)
    channels = 64  # from which on `conv` uses it
    empty, kernel = jnp.ones((2, 0, 0, channels)), jnp.ones((3, 3, channels, channels))
    assert jax.grad(lambda images: conv(images, kernel).sum())(empty).shape == empty.shape
