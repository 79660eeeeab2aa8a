"""Times the operations of `fmnist_jax.layers` against their plain spellings: `python experiments/layer_times.py`.

Prints milliseconds for a forward and backward pass on 128 images inside a compiled loop, as in training: the figures
that the docstrings of `layers` quote.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from fmnist_jax import batch_norm, compiler_options, conv, conv_max_pool, max_pool

_ITERATIONS = 3
_REPEATS = 3


class Case(NamedTuple):
    """An operation of two arguments in both spellings, and their shapes."""

    name: str
    here: Callable[[Array, Array], Array]
    plain: Callable[[Array, Array], Array]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]


def plain_conv(x: Array, kernel: Array) -> Array:
    """Convolves with the gradients that autodiff derives."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def plain_max_pool(x: Array) -> Array:
    """Pools as Flax does."""
    return nn.max_pool(x, (2, 2), (2, 2))


def plain_batch_norm(x: Array, scale: Array) -> Array:
    """Normalises with the gradient that autodiff derives."""
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * lax.rsqrt(variance + 1e-5) * scale


CASES = [
    Case("conv, 28x28, 32 to 32", conv, plain_conv, ((128, 28, 28, 32), (3, 3, 32, 32))),
    Case("conv, 7x7, 128 to 128", conv, plain_conv, ((128, 7, 7, 128), (3, 3, 128, 128))),
    Case(
        "conv_max_pool, 28x28, 1 to 32",
        conv_max_pool,
        lambda x, kernel: plain_max_pool(plain_conv(x, kernel)),
        ((128, 28, 28, 1), (3, 3, 1, 32)),
    ),
    Case(
        "max_pool, 28x28x32",
        lambda x, scale: max_pool(x * scale),
        lambda x, scale: plain_max_pool(x * scale),
        ((128, 28, 28, 32), (32,)),
    ),
    Case(
        "batch_norm, 28x28x32",
        lambda x, scale: batch_norm(x, scale, jnp.zeros(32))[0],
        plain_batch_norm,
        ((128, 28, 28, 32), (32,)),
    ),
]


def milliseconds(operation: Callable[[Array, Array], Array], x: Array, weights: Array) -> float:
    """The median time of an operation and its gradient with respect to both arguments, in a compiled loop."""

    def body(_: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        gradients = jax.grad(lambda *both: jnp.sum(operation(*both) ** 3), argnums=(0, 1))(*carry)
        return carry[0] - 1e-6 * gradients[0], carry[1] - 1e-6 * gradients[1]

    loop = jax.jit(
        lambda x, weights: lax.fori_loop(0, _ITERATIONS, body, (x, weights)), compiler_options=compiler_options()
    )
    jax.block_until_ready(loop(x, weights))
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(loop(x, weights))
        times.append(time.perf_counter() - start)
    return 1e3 * sorted(times)[_REPEATS // 2] / _ITERATIONS


def main() -> None:
    """Prints the table."""
    print(f"{'milliseconds':<30} {'here':>8} {'plain':>8}   ({jax.default_backend()}, jax {jax.__version__})")
    for case in CASES:
        x, weights = (0.1 * jax.random.normal(jax.random.key(0), shape) for shape in case.shapes)
        here, plain = milliseconds(case.here, x, weights), milliseconds(case.plain, x, weights)
        print(f"{case.name:<30} {here:8.1f} {plain:8.1f}")


if __name__ == "__main__":
    main()
