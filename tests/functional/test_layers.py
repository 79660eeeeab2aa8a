"""Convolutions and pooling against NumPy, and against autodiff of their plain implementations in float64."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import Array, lax

from fmnist_jax import avg_pool, batch_norm, conv, conv_avg_pool, conv_max_pool, max_pool
from fmnist_jax.functional import convolution
from tests.functional.oracles import numpy_conv, padded, plain_conv

# [B, H, W, C_in, C_out, K]: odd, even and unequal sides, one pixel, and kernels wider than the image.
CONV_SHAPES = [
    (2, 28, 28, 1, 3, 3),
    (3, 7, 5, 2, 4, 3),
    (1, 4, 9, 3, 2, 5),
    (2, 6, 6, 4, 1, 1),
    (2, 1, 1, 2, 3, 3),
    (1, 2, 3, 2, 2, 5),
    (1, 7, 6, 64, 65, 3),  # few pixels, many channels: Winograd's algorithm
]
SMALL = (2, 5, 4, 3, 2, 3)


def numpy_conv_gradients(x: np.ndarray, kernel: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size, (_, height, width, _) = len(kernel), x.shape
    padded_x, pad = padded(x, size), size // 2
    d_padded, d_kernel = np.zeros_like(padded_x), np.zeros_like(kernel)
    for i in range(size):
        for j in range(size):
            d_padded[:, i : i + height, j : j + width] += g @ kernel[i, j].T
            d_kernel[i, j] = np.einsum("bhwc,bhwo->co", padded_x[:, i : i + height, j : j + width], g)
    return d_padded[:, pad : pad + height, pad : pad + width], d_kernel


def draw_conv(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch, height, width, inputs, outputs, size = shape
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, height, width, inputs))
    return x, rng.normal(size=(size, size, inputs, outputs)), rng.normal(size=(batch, height, width, outputs))


def as_float32(*arrays: np.ndarray) -> list[Array]:
    return [jnp.asarray(array, jnp.float32) for array in arrays]


def assert_all_close(actual: Iterable[Any], expected: Iterable[Any], tolerance: float) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@partial(jax.jit, static_argnums=0)
def gradients(function: Callable[..., Array], cotangent: Array, *operands: Array) -> tuple[Array, ...]:
    return jax.vjp(function, *operands)[1](cotangent)


@partial(jax.jit, static_argnums=0)
def value_and_gradients(function: Callable[..., Array], cotangent: Array, *operands: Array) -> tuple[Array, ...]:
    return function(*operands), *jax.vjp(function, *operands)[1](cotangent)


@pytest.mark.parametrize("shape", CONV_SHAPES)
def test_conv_and_its_gradients_equal_numpy_and_autodiff_in_float64(shape: tuple[int, ...]) -> None:
    x, kernel, g = draw_conv(shape)
    with jax.enable_x64(True):
        operands = (jnp.asarray(x), jnp.asarray(kernel))
        y, *ours = value_and_gradients(conv, jnp.asarray(g), *operands)
        autodiff = gradients(plain_conv, jnp.asarray(g), *operands)
    assert y.dtype == jnp.float64
    np.testing.assert_allclose(y, numpy_conv(x, kernel), rtol=1e-12, atol=1e-12)
    assert_all_close(ours, numpy_conv_gradients(x, kernel, g), 1e-12)
    assert_all_close(ours, autodiff, 1e-12)


# The shapes of every implementation on a CPU: a loop, Winograd's algorithm, the library's.
@pytest.mark.parametrize("channels", [(1, 5), (64, 64), (3, 5)])
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64])
def test_conv_of_integers_and_complex_numbers_equals_that_of_lax(channels: tuple[int, int], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    # Integers that float32 does not hold, and complex ones.
    scale = (1 << 24) + 1 if dtype == jnp.int32 else 1 - 2j
    x, kernel = (
        jnp.asarray(scale * rng.integers(-3, 4, shape), dtype) for shape in ((2, 6, 6, channels[0]), (3, 3, *channels))
    )
    expected = plain_conv(x, kernel)
    actual = jax.jit(conv)(x, kernel)
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=0, atol=0 if dtype == jnp.int32 else 0.01)


def test_conv_gradients_keep_bfloat16_but_accumulate_in_higher_precision() -> None:
    # All positive: a sum over 8 x 14 x 14 positions accumulated in bfloat16 would stop growing near 256.
    x, kernel, g = (jnp.asarray(np.abs(a), jnp.bfloat16) for a in draw_conv((8, 14, 14, 4, 4, 3)))
    arrays64 = [np.asarray(a, np.float64) for a in (x, kernel, g)]
    for actual, expected in zip(gradients(conv, g, x, kernel), numpy_conv_gradients(*arrays64), strict=True):
        assert actual.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=2**-7)


@pytest.mark.parametrize(
    ("shape", "only_products"),
    [
        ((1, 7, 7, 64, 64, 3), True),  # transforms of whole images
        ((1, 7, 7, 63, 64, 3), False),
        ((1, 7, 7, 64, 64, 5), False),
        ((1, 9, 7, 64, 64, 3), False),
    ],
)
def test_conv_lowers_to_products_only_for_3x3_on_small_images_with_many_channels(
    shape: tuple[int, ...], only_products: bool
) -> None:
    x, kernel, _ = as_float32(*draw_conv(shape))
    assert ("stablehlo.convolution" not in jax.jit(conv).lower(x, kernel).as_text()) == only_products


def plain_conv_max_pool(x: Array, kernel: Array) -> Array:
    return max_pool(plain_conv(x, kernel))


def plain_conv_avg_pool(x: Array, kernel: Array) -> Array:
    return nn.avg_pool(plain_conv(x, kernel), (2, 2), strides=(2, 2))


def assert_equals_composition(
    operation: Callable[..., Array], composition: Callable[..., Array], shape: tuple[int, ...]
) -> None:
    """Compares a pooled convolution of [B, H, W, C_in, C_out, K] and its gradients in float64."""
    x, kernel, _ = draw_conv(shape)
    g = np.random.default_rng(1).normal(size=(shape[0], shape[1] // 2, shape[2] // 2, shape[4]))
    with jax.enable_x64(True):
        operands = (jnp.asarray(g), jnp.asarray(x), jnp.asarray(kernel))
        ours, expected = (value_and_gradients(function, *operands) for function in (operation, composition))
    assert ours[0].dtype == jnp.float64
    assert_all_close(ours, expected, 1e-12)


def conv_max_pool_of_windows(x: Array, kernel: Array) -> Array:
    """`conv_max_pool` as implemented on platforms other than a CPU."""
    y = convolution._conv_windows(x, kernel)
    return y.reshape(*y.shape[:2], -1, 4, y.shape[3]).max(3)


# Patches of 16 and 36 values, too many values for patches, odd sides.
@pytest.mark.parametrize("implementation", [conv_max_pool, conv_max_pool_of_windows])
@pytest.mark.parametrize("shape", [(2, 28, 28, 1, 3, 3), (2, 6, 4, 1, 4, 5), (2, 6, 4, 8, 4, 3), (2, 7, 5, 2, 3, 3)])
def test_conv_max_pool_and_its_gradients_equal_conv_then_pool_in_float64(
    implementation: Callable[..., Array], shape: tuple[int, ...]
) -> None:
    assert_equals_composition(implementation, plain_conv_max_pool, shape)


# Even and odd sides, a single row, nothing left after pooling, and kernels of 5x5 and 1x1.
@pytest.mark.parametrize("implementation", [conv_avg_pool, convolution._conv_mean])
@pytest.mark.parametrize(
    "shape",
    [
        *[(2, 14, 14, 3, 4, 3), (2, 7, 5, 2, 3, 3), (1, 3, 2, 4, 2, 3)],
        *[(2, 9, 6, 2, 3, 5), (1, 1, 4, 2, 3, 3), (1, 4, 5, 2, 3, 1)],
    ],
)
def test_conv_avg_pool_and_its_gradients_equal_conv_then_pool_in_float64(
    implementation: Callable[..., Array], shape: tuple[int, ...]
) -> None:
    assert_equals_composition(implementation, plain_conv_avg_pool, shape)


@pytest.mark.parametrize("implementation", [conv_avg_pool, convolution._conv_mean])
def test_conv_avg_pool_of_bfloat16_keeps_the_dtype(implementation: Callable[..., Array]) -> None:
    x, kernel, _ = draw_conv((2, 6, 6, 4, 3, 3))
    g = np.random.default_rng(1).normal(size=(2, 3, 3, 3))
    half = [jnp.asarray(a, jnp.bfloat16) for a in (g, x, kernel)]
    single = [a.astype(jnp.float32) for a in half]
    actual, expected = value_and_gradients(implementation, *half), value_and_gradients(implementation, *single)
    assert {a.dtype for a in actual} == {jnp.dtype("bfloat16")}
    assert_all_close([a.astype(jnp.float32) for a in actual], expected, 0.1)


def test_conv_max_pool_has_the_same_values_with_and_without_a_gradient() -> None:
    """The two cases are implemented separately."""
    x, kernel, _ = as_float32(*draw_conv((2, 8, 6, 1, 4, 3)))
    for inputs in (x, x.at[0, 3, 3].set(jnp.nan), x.at[0, 3, 3].set(-jnp.inf)):
        np.testing.assert_array_equal(conv_max_pool(inputs, kernel), jax.vjp(conv_max_pool, inputs, kernel)[0])


def test_conv_max_pool_splits_the_gradient_between_ties_like_conv_then_pool() -> None:
    x, kernel = jnp.ones((1, 6, 6, 1)), jnp.ones((3, 3, 1, 2))
    ours = gradients(conv_max_pool, jnp.ones((1, 3, 3, 2)), x, kernel)
    assert_all_close(ours, gradients(plain_conv_max_pool, jnp.ones((1, 3, 3, 2)), x, kernel), 0)


def test_conv_gradients_inside_scan_and_fori_loop_equal_numpy() -> None:
    draws = [draw_conv(SMALL, seed) for seed in range(3)]
    xs, kernels, gs = (jnp.asarray(np.stack(a), jnp.float32) for a in zip(*draws, strict=True))

    @jax.jit
    def scanned() -> tuple[Array, ...]:
        return lax.scan(lambda _, draw: (None, gradients(conv, *draw)), None, (gs, xs, kernels))[1]

    @jax.jit
    def looped() -> tuple[Array, ...]:
        def body(i: Array, rows: tuple[Array, ...]) -> tuple[Array, ...]:
            return jax.tree.map(
                lambda all_rows, row: all_rows.at[i].set(row), rows, gradients(conv, gs[i], xs[i], kernels[i])
            )

        return lax.fori_loop(0, 3, body, (jnp.zeros_like(xs), jnp.zeros_like(kernels)))

    for d_xs, d_kernels in (scanned(), looped()):
        for i, draw in enumerate(draws):
            assert_all_close((d_xs[i], d_kernels[i]), numpy_conv_gradients(*draw), 1e-5)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmapped_conv_and_its_gradients_equal_numpy_for_each_member(axes: tuple[int | None, int | None]) -> None:
    draws = [draw_conv(SMALL, seed) for seed in range(3)]
    stacks = [np.stack([draw[index] for draw in draws]) for index in range(3)]
    operands = [jnp.asarray(stacks[index] if axis == 0 else stacks[index][0]) for index, axis in enumerate(axes)]

    def conv_and_gradients(g: Array, x: Array, kernel: Array) -> tuple[Array, ...]:
        return conv(x, kernel), *gradients(conv, g, x, kernel)

    y, d_x, d_kernel = jax.jit(jax.vmap(conv_and_gradients, in_axes=(0, *axes)))(jnp.asarray(stacks[2]), *operands)
    for i in range(3):
        x, kernel = (draws[i if axis == 0 else 0][index] for index, axis in enumerate(axes))
        expected = (numpy_conv(x, kernel), *numpy_conv_gradients(x, kernel, draws[i][2]))
        assert_all_close((y[i], d_x[i], d_kernel[i]), expected, 1e-5)


@partial(jax.jit, static_argnums=0)
def hessian_product(function: Callable[..., Array], weights: Array, *arrays: Array) -> tuple[Array, ...]:
    """Reverse over reverse: the gradient of `<gradient, tangents>`; the operands come first, then the tangents."""
    operands, tangents = arrays[: len(arrays) // 2], arrays[len(arrays) // 2 :]
    argnums = tuple(range(len(operands)))

    def loss(*operands: Array) -> Array:
        return (weights * jnp.sin(function(*operands))).sum()

    def directional(*operands: Array) -> Array:
        grads = jax.grad(loss, argnums=argnums)(*operands)
        return jnp.stack([jnp.vdot(grad, tangent) for grad, tangent in zip(grads, tangents, strict=True)]).sum()

    return jax.grad(directional, argnums=argnums)(*operands)


def test_conv_hessian_product_equals_autodiff() -> None:
    x, kernel, weights = draw_conv(SMALL)
    x_tangent, kernel_tangent, _ = draw_conv(SMALL, seed=1)
    with jax.enable_x64(True):
        arrays = [jnp.asarray(a) for a in (weights, x, kernel, x_tangent, kernel_tangent)]
        ours, plain = hessian_product(conv, *arrays), hessian_product(plain_conv, *arrays)
    assert_all_close(ours, plain, 1e-10)


@pytest.mark.parametrize(
    "shape", [(2, 28, 28, 3), (1, 7, 5, 2), (2, 4, 3, 1), (1, 2, 2, 4), (2, 1, 1, 3), (1, 3, 1, 2)]
)
def test_max_pool_equals_numpy_and_drops_an_odd_edge(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    batch, height, width, channels = shape[0], shape[1] // 2, shape[2] // 2, shape[3]
    windows = x[:, : 2 * height, : 2 * width].reshape(batch, height, 2, width, 2, channels)
    np.testing.assert_array_equal(max_pool(jnp.asarray(x)), windows.max((2, 4)))


@pytest.mark.parametrize("shape", [(2, 4, 6, 2), (1, 5, 3, 2)])
def test_max_pool_gradient_equals_finite_differences(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    # Distinct integers: a quarter up or down changes no maximum's position, so differences are exact.
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    weights = rng.normal(size=(shape[0], shape[1] // 2, shape[2] // 2, shape[3])).astype(np.float32)

    @jax.jit
    def loss(x: Array) -> Array:
        return (max_pool(x) * weights).sum()

    steps = 0.25 * np.eye(x.size, dtype=np.float32).reshape(x.size, *shape)
    expected = np.array([float(loss(x + step)) - float(loss(x - step)) for step in steps]).reshape(shape) / 0.5
    np.testing.assert_allclose(jax.grad(loss)(x), expected, atol=1e-3)
    assert np.count_nonzero(expected) == weights.size


def test_max_pool_gradient_survives_recomputation_of_its_input() -> None:
    """XLA:CPU of jax 0.10 recomputes these sums: a gradient that compared them with the maximum was lost."""
    x, kernel, g = as_float32(*draw_conv((6, 28, 28, 1, 4, 3)))

    def conv_of_taps(x: Array, kernel: Array) -> Array:
        padded_x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        taps = ((i, j, kernel[i, j].reshape(1, 1, 1, -1)) for i in range(3) for j in range(3))
        return sum((padded_x[:, i : i + 28, j : j + 28] * weights for i, j, weights in taps), jnp.zeros_like(g))

    def gradient(operation: Callable[..., Array]) -> Array:
        def loss(kernel: Array) -> Array:
            y, _, _ = batch_norm(max_pool(operation(x, kernel)), jnp.ones(4), jnp.zeros(4))
            return jnp.sum(jax.nn.relu(y) * g[:, ::2, ::2])

        return jax.jit(jax.grad(loss))(kernel)

    np.testing.assert_allclose(gradient(conv_of_taps), gradient(plain_conv), rtol=1e-4, atol=1e-3)


def test_max_pool_splits_the_gradient_between_ties() -> None:
    x = jnp.array([[3.0, 3.0, 1.0, 2.0], [3.0, 3.0, 2.0, 0.0]]).reshape(1, 2, 4, 1)
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0.25, 0.25, 0.0, 0.5], [0.25, 0.25, 0.5, 0.0]])


@pytest.mark.parametrize("shape", [(2, 2), (4, 4), (1, 3), (3, 1)])
def test_convolutions_reject_even_sized_and_non_square_kernels(shape: tuple[int, int]) -> None:
    for operation in (conv, conv_max_pool, conv_avg_pool):
        with pytest.raises(ValueError, match=f"{shape[0]}x{shape[1]}"):
            operation(jnp.zeros((1, 6, 6, 1)), jnp.zeros((*shape, 1, 1)))


@pytest.mark.parametrize("layer", [conv, conv_max_pool, conv_avg_pool])
@pytest.mark.parametrize("x", [(1, 4, 4, 3), (4, 4, 1), (2, 1, 4, 4, 1)])
def test_kernel_that_does_not_fit_the_images_is_rejected_eager_and_jitted(
    layer: Callable[..., Array], x: tuple[int, ...]
) -> None:
    for call in (layer, jax.jit(layer)):
        with pytest.raises(ValueError, match=r"^images \[.*\] and a kernel \[3, 3, 1, 1\]: expected \[B, H, W, C_in\]"):
            call(jnp.ones(x), jnp.full((3, 3, 1, 1), 1 / 9))


@pytest.mark.parametrize("layer", [conv, conv_avg_pool])
def test_kernel_of_another_dtype_is_rejected_eager_and_jitted(layer: Callable[..., Array]) -> None:
    for call in (layer, jax.jit(layer)):
        with pytest.raises(TypeError, match="bfloat16"):
            call(jnp.ones((1, 4, 4, 1), jnp.bfloat16), jnp.ones((3, 3, 1, 1)))


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32])
def test_avg_pool_rejects_integer_images(dtype: type) -> None:
    with pytest.raises(ValueError, match="expected floats"):
        avg_pool(jnp.full((1, 2, 2, 1), 200, dtype))
    with pytest.raises(ValueError, match=f"images of {jnp.dtype(dtype)}: expected floats or complex numbers"):
        conv_avg_pool(jnp.ones((1, 4, 4, 1), dtype), jnp.ones((3, 3, 1, 1), dtype))


def test_means_of_complex_numbers_are_those_of_both_parts() -> None:
    rng = np.random.default_rng(0)
    x, kernel = (
        jnp.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape), jnp.complex64)
        for shape in ((2, 5, 4, 3), (3, 3, 3, 2))
    )
    np.testing.assert_allclose(avg_pool(x), avg_pool(x.real) + 1j * avg_pool(x.imag), rtol=1e-6)
    np.testing.assert_allclose(conv_avg_pool(x, kernel), avg_pool(conv(x, kernel)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [conv, conv_avg_pool])
@pytest.mark.parametrize("axes", [(None, 0), (0, None), (0, 0)])
def test_vmapped_convolutions_accept_empty_batches_and_single_pixel_images(
    layer: Callable[..., Array], axes: tuple[int | None, int | None]
) -> None:
    for shape in ((0, 4, 4, 3), (2, 1, 1, 3)):
        x, kernel = jnp.ones((3, *shape)), jnp.ones((3, 3, 3, 3, 2))
        operands = [array if axis == 0 else array[0] for array, axis in zip((x, kernel), axes, strict=True)]
        expected = (3, *jax.eval_shape(layer, x[0], kernel[0]).shape)
        assert jax.vmap(layer, axes)(*operands).shape == expected


@pytest.mark.parametrize("layer", [conv, conv_max_pool, conv_avg_pool])
@pytest.mark.parametrize("axes", [(None, 0), (0, None), (0, 0)])
def test_vmapped_convolutions_and_their_gradients_accept_no_models(
    layer: Callable[..., Array], axes: tuple[int | None, int | None]
) -> None:
    x, kernel = (
        jnp.ones(shape if axis is None else (0, *shape))
        for shape, axis in zip(((2, 6, 4, 3), (3, 3, 3, 5)), axes, strict=True)
    )
    shape = jax.eval_shape(layer, jnp.ones((2, 6, 4, 3)), jnp.ones((3, 3, 3, 5))).shape
    assert jax.vmap(layer, axes)(x, kernel).shape == (0, *shape)
    gradients = jax.vmap(jax.grad(lambda x, kernel: layer(x, kernel).sum(), (0, 1)), axes)(x, kernel)
    assert [gradient.shape for gradient in gradients] == [(0, 2, 6, 4, 3), (0, 3, 3, 3, 5)]
    twice = jax.vmap(jax.vmap(layer, axes), axes)(
        *(a if i is None else a[:, None] for a, i in zip((x, kernel), axes, strict=True))
    )
    assert twice.shape == (0, 1, *shape)


@pytest.mark.parametrize("layer", [conv, conv_max_pool, conv_avg_pool])
@pytest.mark.parametrize(("channels", "features"), [(0, 5), (3, 0), (0, 0)])
def test_convolutions_from_or_to_no_channels_are_sums_of_nothing(
    layer: Callable[..., Array], channels: int, features: int
) -> None:
    x, kernel = jnp.ones((2, 6, 4, channels)), jnp.ones((3, 3, channels, features))
    y = layer(x, kernel)
    np.testing.assert_array_equal(y, np.zeros((2, *((6, 4) if layer is conv else (3, 2)), features)))
    gradients = jax.grad(lambda x, kernel: layer(x, kernel).sum(), (0, 1))(x, kernel)
    assert [gradient.shape for gradient in gradients] == [x.shape, kernel.shape]
    np.testing.assert_array_equal(gradients[0], np.zeros(x.shape))
