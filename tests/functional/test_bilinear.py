"""A bilinear operation's derivatives of every order and kind, under every mapping, against those of JAX's own."""

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
    return jax.grad(lambda *both: loss(conv, *both), (0, 1))(x, kernel)


def compiled_gradient(conv: Conv, x: Array, kernel: Array) -> Any:
    return jax.jit(gradient, static_argnums=0)(conv, x, kernel)


def along(conv: Conv, x: Array, kernel: Array) -> Any:
    return jax.jvp(conv, (x, kernel), (D_X, D_KERNEL))


DERIVATIVES: dict[str, Callable[[Conv, Array, Array], Any]] = {
    "reverse": gradient,
    "forward": along,
    "forward over reverse": lambda conv, *both: jax.jvp(lambda *b: gradient(conv, *b), both, (D_X, D_KERNEL)),
    "reverse over forward": lambda conv, *both: jax.grad(lambda *b: (along(conv, *b)[1] ** 2).sum(), (0, 1))(*both),
    "reverse over reverse": lambda conv, *both: jax.grad(
        lambda *b: sum((g * d).sum() for g, d in zip(gradient(conv, *b), (D_X, D_KERNEL), strict=True)), (0, 1)
    )(*both),
    "third": lambda conv, *both: jax.jvp(
        lambda *b: jax.jvp(lambda *c: gradient(conv, *c), b, (D_X, D_KERNEL)), both, (D_X, D_KERNEL)
    ),
    "a linear map": lambda conv, x, kernel: jax.linearize(lambda k: loss(conv, x, k), kernel)[1](D_KERNEL),
    "transposed twice": lambda conv, x, kernel: jax.linear_transpose(
        jax.linear_transpose(lambda k: conv(x, k), kernel), convolve(x, kernel)
    )((D_KERNEL,)),
}


def assert_close(got: Any, expected: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), got, expected)


@pytest.mark.parametrize("derivative", DERIVATIVES.values(), ids=DERIVATIVES)
def test_each_derivative_is_that_of_the_plain_convolution(derivative: Callable[..., Any]) -> None:
    expected = jax.jit(lambda *both: derivative(convolve, *both))(X, KERNEL)
    assert_close(jax.jit(lambda *both: derivative(conv, *both))(X, KERNEL), expected)
    assert_close(derivative(conv, X, KERNEL), expected)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_kernels_of_each_odd_size(size: int) -> None:
    kernel = draw((size, size, 3, 2), 4)
    assert_close(compiled_gradient(conv, X, kernel), compiled_gradient(convolve, X, kernel))


def test_half_precision_stays_half_precision() -> None:
    x, kernel = X.astype(jnp.bfloat16), KERNEL.astype(jnp.bfloat16)
    for got, expected in zip(*(compiled_gradient(each, x, kernel) for each in (conv, convolve)), strict=True):
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(got.astype(jnp.float32), expected.astype(jnp.float32), rtol=0.05, atol=0.5)


def everything(conv: Conv, x: Array, kernel: Array) -> Any:
    along = jax.jvp(conv, (x, kernel), (x, kernel))
    return gradient(conv, x, kernel), along


MANY_X, MANY_KERNELS = draw((2, 3, 4, 5, 5, 3), 5), draw((2, 3, 3, 3, 3, 2), 6)


@pytest.mark.parametrize("inner", [(0, 0), (0, None), (None, 0), (3, 2)], ids=str)
@pytest.mark.parametrize("outer", [None, (0, 0), (None, 0)], ids=str)
def test_mapped_over_models_in_any_way(inner: tuple[Any, Any], outer: tuple[Any, Any] | None) -> None:
    arrays = []
    for many, inside, outside in zip((MANY_X, MANY_KERNELS), inner, outer or (None, None), strict=True):
        lead = 0 if outside is None else 1
        kept = many[0] if outside is None else many
        arrays.append(jnp.take(kept, 0, lead) if inside is None else jnp.moveaxis(kept, lead, lead + inside))

    def mapped(conv: Conv) -> Any:
        once = jax.vmap(lambda *both: everything(conv, *both), in_axes=inner)
        return jax.jit(jax.vmap(once, in_axes=outer) if outer else once)(*arrays)

    assert_close(mapped(conv), mapped(convolve))


def test_under_shard_map_the_kernel_s_gradient_is_that_of_the_whole_batch() -> None:
    mesh = jax.make_mesh((2,), ("data",))
    with jax.set_mesh(mesh):
        sharded = jax.shard_map(
            lambda x, kernel: jax.grad(lambda k: jax.lax.psum(loss(conv, x, k), "data"))(kernel),
            in_specs=(P("data"), P()),
            out_specs=P(),
        )
        got = jax.jit(sharded)(jax.device_put(X, jax.NamedSharding(mesh, P("data"))), KERNEL)
    assert_close(got, compiled_gradient(convolve, X, KERNEL)[1])


@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (convolution.conv_mean, convolution._conv_mean),
        (convolution.conv_windows, convolution._conv_windows),
    ],
    ids=["means", "windows"],
)
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)], ids=str)
def test_an_operation_that_changes_the_sides_has_its_derivatives_and_maps_too(
    ours: Conv, plain: Conv, axes: tuple[int | None, int | None]
) -> None:
    xs, kernels = draw((2, 3, 5, 6, 3), 7), draw((2, 3, 3, 3, 2), 8)
    arrays = [many if axis == 0 else many[0] for many, axis in zip((xs, kernels), axes, strict=True)]

    def products(conv: Conv) -> Any:
        def product(x: Array, kernel: Array) -> Any:
            return jax.jvp(lambda *both: gradient(conv, *both), (x, kernel), (x, kernel))

        return jax.jit(jax.vmap(product, in_axes=axes))(*arrays)

    assert_close(products(ours), products(plain))
