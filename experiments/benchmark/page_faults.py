"""Times a step with freshly mapped and with kept memory: `python -m experiments.benchmark.page_faults`.

Prints milliseconds and page faults for a step of `fast` called by itself and in a compiled loop, each before and after
`keep_freed_memory`.
"""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from experiments.script import run_script
from fmnist_jax import PRESETS, Batch, compiler_options, keep_freed_memory, make_recipe, make_train_chunk

_STEPS = 25  # as many as the command compiles into one dispatch
_REPEATS = 5


@dataclass(frozen=True)
class Arguments:
    """Times a step with freshly mapped and with kept memory."""


def measure(take_steps: Callable[[], Any]) -> tuple[float, float]:
    """The milliseconds and page faults of a step in the round of median time, after a warm-up round."""
    jax.block_until_ready(take_steps())
    rounds = []
    for _ in range(_REPEATS):
        faults_before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        jax.block_until_ready(take_steps())
        seconds = time.perf_counter() - start
        rounds.append(
            (1e3 * seconds / _STEPS, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults_before) / _STEPS)
        )
    return sorted(rounds)[_REPEATS // 2]


def main(_: Arguments) -> None:
    """Prints the table."""
    config = PRESETS["fast"]
    recipe, size = make_recipe(config), config.train.batch_size
    images = jax.random.bits(jax.random.key(0), (10 * size, 28, 28, 1), jnp.uint8)
    data = Batch(images, jnp.arange(len(images)) % 10)
    batch = Batch(data.images[:size], data.labels[:size])
    state = recipe.init(jax.random.key(0))
    step = jax.jit(recipe.step, compiler_options=compiler_options())
    chunk_fn = make_train_chunk(recipe.step, size, _STEPS, sample=recipe.sample)
    chunk = jax.jit(chunk_fn, compiler_options=compiler_options())

    def one_by_one() -> Any:
        current = state
        for _ in range(_STEPS):
            current, _ = step(current, batch)
        return current

    for memory in ("given back", "kept"):
        if memory == "kept" and not keep_freed_memory():
            print("this C library has no such setting")
            return
        cases = {"one by one": one_by_one, "in a compiled loop": lambda: chunk(state, data, jnp.int32(_STEPS))}
        for name, take_steps in cases.items():
            milliseconds, faults = measure(take_steps)
            print(f"memory {memory:<10}  {name:<18} {milliseconds:6.1f} ms a step, {faults:8,.0f} page faults")


if __name__ == "__main__":
    run_script(main, Arguments)
