"""Times operations of `layers` against plain implementations: `python -m experiments.benchmark.layer_times`.

Prints milliseconds for a forward and backward pass on 128 images inside a compiled loop, as in training: the figures
that the docstrings of `layers` quote. The last line times whole training steps of the `fast` preset with the options of
`compilation`, under "here", and with XLA's defaults, under "plain".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from experiments.benchmark.networks import PLAIN
from experiments.benchmark.pieces import make_loop, median_seconds
from experiments.script import run_script
from fmnist_jax import (
    PRESETS,
    Batch,
    batch_norm,
    compiler_options,
    conv,
    conv_avg_pool,
    conv_max_pool,
    keep_freed_memory,
    make_recipe,
    make_train_chunk,
    max_pool,
)

_ITERATIONS = 3
_REPEATS = 3  # few, because a plain implementation may take seconds
_STEPS = 20


@dataclass(frozen=True)
class Arguments:
    """Times operations of `layers` against plain implementations."""


class Case(NamedTuple):
    """Both implementations of an operation of two arguments, and the shapes of these."""

    name: str
    ours: Callable[[Array, Array], Array]
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
    gradients = jax.grad(lambda *arguments: jnp.sum(operation(*arguments) ** 3), argnums=(0, 1))
    return 1e3 * median_seconds(make_loop(gradients, (x, weights), _ITERATIONS), _REPEATS) / _ITERATIONS


def step_milliseconds(options: dict[str, Any]) -> float:
    """The median time of a training step of `fast`, in a compiled loop under these compiler options."""
    config = PRESETS["fast"]
    recipe, size = make_recipe(config), config.train.batch_size
    images = jax.random.bits(jax.random.key(0), (10 * size, 28, 28, 1), jnp.uint8)
    data = Batch(images, jnp.arange(len(images)) % 10)
    state = recipe.init(jax.random.key(0))
    chunk = jax.jit(make_train_chunk(recipe.step, size, _STEPS, sample=recipe.sample), compiler_options=options)
    seconds = median_seconds(lambda: jax.block_until_ready(chunk(state, data, jnp.int32(_STEPS))), _REPEATS)
    return 1e3 * seconds / _STEPS


def main(_: Arguments) -> None:
    """Prints the table."""
    keep_freed_memory()
    print(f"{'milliseconds':<30} {'here':>8} {'plain':>8}   ({jax.default_backend()}, jax {jax.__version__})")
    for case in CASES:
        x, weights = (0.1 * jax.random.normal(jax.random.key(0), shape) for shape in case.shapes)
        ours, plain = milliseconds(case.ours, x, weights), milliseconds(case.plain, x, weights)
        print(f"{case.name:<30} {ours:8.1f} {plain:8.1f}")
    print(f"{'step of fast':<30} {step_milliseconds(compiler_options()):8.1f} {step_milliseconds({}):8.1f}")


if __name__ == "__main__":
    run_script(main, Arguments)
