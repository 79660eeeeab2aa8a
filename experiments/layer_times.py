"""Times the operations of `fmnist_jax.layers` against their plain spellings: `python experiments/layer_times.py`.

Prints milliseconds for a forward and backward pass on 128 images of 28 x 28 x 32, inside a compiled loop as in
training: the figures that the docstrings of `layers` quote.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from fmnist_jax import batch_norm, conv, max_pool

_SHAPE = (128, 28, 28, 32)
_ITERATIONS = 3
_REPEATS = 3


def plain_conv(x: Array, kernel: Array) -> Array:
    """Convolves with the gradients that autodiff derives."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def plain_batch_norm(x: Array, scale: Array) -> Array:
    """Normalises with the gradient that autodiff derives."""
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * lax.rsqrt(variance + 1e-5) * scale


def milliseconds(loss: Callable[[Array, Array], Array], x: Array, weights: Array) -> float:
    """The median time of the gradient of a loss with respect to both arguments, in a compiled loop."""

    def body(_: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        gradients = jax.grad(loss, argnums=(0, 1))(*carry)
        return carry[0] - 1e-6 * gradients[0], carry[1] - 1e-6 * gradients[1]

    loop = jax.jit(lambda x, weights: lax.fori_loop(0, _ITERATIONS, body, (x, weights)))
    jax.block_until_ready(loop(x, weights))
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(loop(x, weights))
        times.append(time.perf_counter() - start)
    return 1e3 * sorted(times)[_REPEATS // 2] / _ITERATIONS


def main() -> None:
    """Prints the table."""
    key = jax.random.key(0)
    x, kernel, scale = jax.random.normal(key, _SHAPE), jax.random.normal(key, (3, 3, 32, 32)) / 17, jnp.ones(32)
    rows: list[tuple[str, Callable[[Array, Array], Array], Callable[[Array, Array], Array], Array]] = [
        ("conv", lambda x, w: jnp.sum(conv(x, w) ** 2), lambda x, w: jnp.sum(plain_conv(x, w) ** 2), kernel),
        (
            "batch_norm",
            lambda x, w: jnp.sum(batch_norm(x, w, jnp.zeros(32))[0] ** 3),
            lambda x, w: jnp.sum(plain_batch_norm(x, w) ** 3),
            scale,
        ),
        (
            "max_pool",
            lambda x, w: jnp.sum(max_pool(x * w) ** 2),
            lambda x, w: jnp.sum(nn.max_pool(x * w, (2, 2), (2, 2)) ** 2),
            scale,
        ),
    ]
    print(f"{'milliseconds':<12} {'here':>8} {'plain':>8}   ({jax.default_backend()}, jax {jax.__version__})")
    for name, ours, plain, weights in rows:
        print(f"{name:<12} {milliseconds(ours, x, weights):8.1f} {milliseconds(plain, x, weights):8.1f}")


if __name__ == "__main__":
    main()
