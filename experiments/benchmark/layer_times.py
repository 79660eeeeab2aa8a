"""Times operations of `layers` against their plain spellings: `python -m experiments.benchmark.layer_times`.

Prints milliseconds for a forward and backward pass on 128 images inside a compiled loop, as in training: the figures
that the docstrings of `layers` quote. The last line times whole training steps of the `fast` preset with the options of
`compilation`, under "here", and with XLA's own, under "plain".
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from experiments.benchmark.networks import PLAIN
from fmnist_jax import (
    PRESETS,
    Batch,
    batch_norm,
    compiler_options,
    conv,
    conv_avg_pool,
    conv_max_pool,
    init_state,
    keep_freed_memory,
    make_model,
    make_optimizer,
    make_schedule,
    make_train_chunk,
    make_train_step,
    max_pool,
)

_ITERATIONS = 3
_REPEATS = 3
_STEPS = 20


class Case(NamedTuple):
    """An operation of two arguments in both spellings, and their shapes."""

    name: str
    here: Callable[[Array, Array], Array]
    plain: Callable[[Array, Array], Array]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]


CASES = [
    Case("conv, 28x28, 32 to 32", conv, PLAIN.conv, ((128, 28, 28, 32), (3, 3, 32, 32))),
    Case("conv, 7x7, 128 to 128", conv, PLAIN.conv, ((128, 7, 7, 128), (3, 3, 128, 128))),
    Case(
        "conv_max_pool, 28x28, 1 to 32",
        conv_max_pool,
        lambda x, kernel: PLAIN.max_pool(PLAIN.conv(x, kernel)),
        ((128, 28, 28, 1), (3, 3, 1, 32)),
    ),
    Case(
        "conv_avg_pool, 14x14, 48 to 96",
        conv_avg_pool,
        lambda x, kernel: nn.avg_pool(conv(x, kernel), (2, 2), strides=(2, 2)),  # PLAIN.conv is timed above
        ((128, 14, 14, 48), (3, 3, 48, 96)),
    ),
    Case(
        "max_pool, 28x28x32",
        lambda x, scale: max_pool(x * scale),
        lambda x, scale: PLAIN.max_pool(x * scale),
        ((128, 28, 28, 32), (32,)),
    ),
    Case(
        "batch_norm, 28x28x32",
        lambda x, scale: batch_norm(x, scale, jnp.zeros(32))[0],
        lambda x, scale: PLAIN.batch_norm(x, scale, jnp.zeros(32))[0],
        ((128, 28, 28, 32), (32,)),
    ),
]


def milliseconds(operation: Callable[[Array, Array], Array], x: Array, weights: Array) -> float:
    """The median time of an operation and its gradient with respect to both arguments, in a compiled loop."""

    def body(_: int, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, weights, square = carry
        gradients = jax.grad(lambda *both: jnp.sum(operation(*both) ** 3), argnums=(0, 1))(x, weights)
        # A loop without any product, which no training is, would be compiled for one thread since jax 0.12.
        return x - 1e-6 * gradients[0], weights - 1e-6 * gradients[1], square @ square

    start = x, weights, jnp.eye(32)
    loop = jax.jit(lambda *start: lax.fori_loop(0, _ITERATIONS, body, start), compiler_options=compiler_options())
    return 1e3 * seconds(lambda: loop(*start)) / _ITERATIONS


def step_milliseconds(options: dict[str, Any]) -> float:
    """The median time of a training step of `fast`, in a compiled loop under these compiler options."""
    config = PRESETS["fast"]
    model, optimizer = make_model(config.model), make_optimizer(config.optim, make_schedule(config.optim, 1))
    chunk = make_train_chunk(make_train_step(model, optimizer), config.train.batch_size, max_steps=_STEPS)
    images = jax.random.bits(jax.random.key(0), (10 * config.train.batch_size, 28, 28, 1), jnp.uint8)
    data = Batch(images, jnp.arange(len(images)) % 10)
    state = init_state(model, optimizer, jax.random.key(0))
    run = jax.jit(chunk, compiler_options=options)
    return 1e3 * seconds(lambda: run(state, data, jnp.int32(_STEPS))) / _STEPS


def seconds(compute: Callable[[], Any]) -> float:
    """The median time of a compiled computation, after a first one that compiles it."""
    jax.block_until_ready(compute())
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(compute())
        times.append(time.perf_counter() - start)
    return sorted(times)[_REPEATS // 2]


def main() -> None:
    """Prints the table."""
    keep_freed_memory()
    print(f"{'milliseconds':<30} {'here':>8} {'plain':>8}   ({jax.default_backend()}, jax {jax.__version__})")
    for case in CASES:
        x, weights = (0.1 * jax.random.normal(jax.random.key(0), shape) for shape in case.shapes)
        here, plain = milliseconds(case.here, x, weights), milliseconds(case.plain, x, weights)
        print(f"{case.name:<30} {here:8.1f} {plain:8.1f}")
    print(f"{'step of fast':<30} {step_milliseconds(compiler_options()):8.1f} {step_milliseconds({}):8.1f}")


if __name__ == "__main__":
    main()
