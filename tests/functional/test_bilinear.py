"""Derivatives of bilinear operations of every order and mode, also under vmap, against those of JAX itself."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.sharding import PartitionSpec as P

from fmnist_jax.functional import convolution
from fmnist_jax.functional.convolution import conv, convolve

Conv = Callable[[Array, Array], Array]


def draw(shape: tuple[int, ...], seed: int) -> Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


X, KERNEL = draw((4, 9, 7, 3), 0), draw((3, 3, 3, 5), 1)
D_X, D_KERNEL = draw(X.shape, 2), draw(KERNEL.shape, 3)


def loss(conv: Conv, x: Array, kernel: Array) -> Array:
    return jnp.sin(conv(x, kernel)).sum()


def gradient(conv: Conv, x: Array, kernel: Array) -> Any:
    return jax.grad(lambda *operands: loss(conv, *operands), (0, 1))(x, kernel)


def compiled_gradient(conv: Conv, x: Array, kernel: Array) -> Any:
    return jax.jit(gradient, static_argnums=0)(conv, x, kernel)


def forward_derivative(conv: Conv, x: Array, kernel: Array) -> Any:
    return jax.jvp(conv, (x, kernel), (D_X, D_KERNEL))


DERIVATIVES: dict[str, Callable[[Conv, Array, Array], Any]] = {
    "reverse": gradient,
    "forward": forward_derivative,
    "forward over reverse": lambda conv, *operands: jax.jvp(lambda *b: gradient(conv, *b), operands, (D_X, D_KERNEL)),
    "reverse over forward": lambda conv, *operands: jax.grad(
        lambda *b: (forward_derivative(conv, *b)[1] ** 2).sum(), (0, 1)
    )(*operands),
    "reverse over reverse": lambda conv, *operands: jax.grad(
        lambda *b: sum((g * d).sum() for g, d in zip(gradient(conv, *b), (D_X, D_KERNEL), strict=True)), (0, 1)
    )(*operands),
    "third order": lambda conv, *operands: jax.jvp(
        lambda *b: jax.jvp(lambda *c: gradient(conv, *c), b, (D_X, D_KERNEL)), operands, (D_X, D_KERNEL)
    ),
    "linearize": lambda conv, x, kernel: jax.linearize(lambda k: loss(conv, x, k), kernel)[1](D_KERNEL),
    "double transpose": lambda conv, x, kernel: jax.linear_transpose(
        jax.linear_transpose(lambda k: conv(x, k), kernel), convolve(x, kernel)
    )((D_KERNEL,)),
}


def assert_close(actual: Any, expected: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), actual, expected)


@pytest.mark.parametrize("derivative", DERIVATIVES.values(), ids=DERIVATIVES)
def test_derivatives_equal_those_of_the_plain_convolution_eager_and_jitted(derivative: Callable[..., Any]) -> None:
    expected = jax.jit(lambda *operands: derivative(convolve, *operands))(X, KERNEL)
    assert_close(jax.jit(lambda *operands: derivative(conv, *operands))(X, KERNEL), expected)
    assert_close(derivative(conv, X, KERNEL), expected)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_gradients_for_kernels_of_odd_sizes(size: int) -> None:
    kernel = draw((size, size, 3, 2), 4)
    assert_close(compiled_gradient(conv, X, kernel), compiled_gradient(convolve, X, kernel))


def test_gradients_of_bfloat16_stay_bfloat16() -> None:
    x, kernel = X.astype(jnp.bfloat16), KERNEL.astype(jnp.bfloat16)
    for actual, expected in zip(*(compiled_gradient(op, x, kernel) for op in (conv, convolve)), strict=True):
        assert actual.dtype == jnp.bfloat16
        np.testing.assert_allclose(actual.astype(jnp.float32), expected.astype(jnp.float32), rtol=0.05, atol=0.5)


def gradient_and_jvp(conv: Conv, x: Array, kernel: Array) -> Any:
    jvp = jax.jvp(conv, (x, kernel), (x, kernel))
    return gradient(conv, x, kernel), jvp


MANY_X, MANY_KERNELS = draw((2, 3, 4, 5, 5, 3), 5), draw((2, 3, 3, 3, 3, 2), 6)


@pytest.mark.parametrize("inner", [(0, 0), (0, None), (None, 0), (3, 2)], ids=str)
@pytest.mark.parametrize("outer", [None, (0, 0), (None, 0)], ids=str)
def test_vmap_and_nested_vmap_equal_the_plain_convolution(
    inner: tuple[Any, Any], outer: tuple[Any, Any] | None
) -> None:
    arrays = []
    for stacked, inner_axis, outer_axis in zip((MANY_X, MANY_KERNELS), inner, outer or (None, None), strict=True):
        lead = 0 if outer_axis is None else 1
        array = stacked[0] if outer_axis is None else stacked
        arrays.append(jnp.take(array, 0, lead) if inner_axis is None else jnp.moveaxis(array, lead, lead + inner_axis))

    def mapped(conv: Conv) -> Any:
        inner_mapped = jax.vmap(lambda *operands: gradient_and_jvp(conv, *operands), in_axes=inner)
        return jax.jit(jax.vmap(inner_mapped, in_axes=outer) if outer else inner_mapped)(*arrays)

    assert_close(mapped(conv), mapped(convolve))


def test_kernel_gradient_under_shard_map_equals_that_of_the_full_batch() -> None:
    mesh = jax.make_mesh((2,), ("data",))
    with jax.set_mesh(mesh):
        sharded = jax.shard_map(
            lambda x, kernel: jax.grad(lambda k: jax.lax.psum(loss(conv, x, k), "data"))(kernel),
            in_specs=(P("data"), P()),
            out_specs=P(),
        )
        actual = jax.jit(sharded)(jax.device_put(X, jax.NamedSharding(mesh, P("data"))), KERNEL)
    assert_close(actual, compiled_gradient(convolve, X, KERNEL)[1])


@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (convolution.conv_mean, convolution._conv_mean),
        (convolution.conv_windows, convolution._conv_windows),
    ],
    ids=["means", "windows"],
)
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)], ids=str)
def test_vmapped_second_derivatives_of_operations_that_change_the_image_size(
    ours: Conv, plain: Conv, axes: tuple[int | None, int | None]
) -> None:
    xs, kernels = draw((2, 3, 5, 6, 3), 7), draw((2, 3, 3, 3, 2), 8)
    arrays = [stacked if axis == 0 else stacked[0] for stacked, axis in zip((xs, kernels), axes, strict=True)]

    def hessian_products(conv: Conv) -> Any:
        def hessian_product(x: Array, kernel: Array) -> Any:
            return jax.jvp(lambda *operands: gradient(conv, *operands), (x, kernel), (x, kernel))

        return jax.jit(jax.vmap(hessian_product, in_axes=axes))(*arrays)

    assert_close(hessian_products(ours), hessian_products(plain))
