"""Times training of many members against one: `python -m experiments.benchmark.population`.

Both are compiled as in a run and take their steps alternately, so that a change in the machine's speed affects both; a
ratio is taken within each round. On a CPU, which one member keeps busy, members run one after another and M of them
cost M times one; in parallel on an accelerator they should cost less.
"""

import statistics
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments import markdown
from experiments.benchmark.tables import median_and_range
from experiments.script import refuse_too_few, run_script
from fmnist_jax import (
    PRESETS,
    Batch,
    FmnistError,
    compiler_options,
    keep_freed_memory,
    load,
    make_population,
    make_recipe,
    make_train_chunk,
    members_map,
)


@dataclass(frozen=True)
class Arguments:
    """Times training of many members against one."""

    presets: tuple[str, ...] = ("fast", "standard")
    """Presets whose networks and recipes to time, on synthetic garments."""
    members: int = 8
    """How many members."""
    steps: int = 4
    """Steps of each per round."""
    rounds: int = 4
    """How often both are timed."""


class Timings(NamedTuple):
    """Seconds per round."""

    one: list[float]
    members: list[float]

    @property
    def ratios(self) -> list[float]:
        """The cost of all members relative to one, round by round."""
        return [many / one for one, many in zip(self.one, self.members, strict=True)]


def measure(preset: str, arguments: Arguments) -> Timings:
    """Times both alternately."""
    train, _, _ = load(PRESETS["demo"].data)
    data = jax.device_put(Batch(train.images, train.labels))
    config, steps = PRESETS[preset], jnp.int32(arguments.steps)
    recipe, keys = make_recipe(config), jax.random.split(jax.random.key(0), arguments.members)
    one = make_train_chunk(recipe.step, config.train.batch_size, arguments.steps, sample=recipe.sample)
    population = make_population(config, over_members=members_map(jax.default_backend()), max_steps=arguments.steps)
    states: dict[str, Any] = {"one": jax.jit(recipe.init)(keys[0]), "members": jax.jit(population.init)(keys)}
    chunks = {
        name: jax.jit(chunk, donate_argnums=0, compiler_options=compiler_options())
        for name, chunk in {"one": one, "members": population.chunk}.items()
    }
    seconds: dict[str, list[float]] = {"one": [], "members": []}
    for round_index in range(arguments.rounds + 1):  # the first round compiles
        for name, chunk in chunks.items():
            start = time.perf_counter()
            states[name], _ = jax.block_until_ready(chunk(states[name], data, steps))
            if round_index:
                seconds[name].append(time.perf_counter() - start)
    return Timings(seconds["one"], seconds["members"])


def row(preset: str, timings: Timings, arguments: Arguments) -> tuple[str, ...]:
    """A row of the table."""
    milliseconds = (f"{statistics.median(seconds) / arguments.steps * 1e3:.1f}" for seconds in timings)
    return (preset, *milliseconds, median_and_range(timings.ratios, "{:.2f}"))


def main(arguments: Arguments) -> None:
    """Measures and prints.

    Raises:
      FmnistError: there is no such preset, a number of anything is less than 1, or a list is empty.
    """
    refuse_too_few(arguments)
    unknown = [name for name in arguments.presets if name not in PRESETS]
    if unknown:
        raise FmnistError(f"--presets has {', '.join(unknown)}: choose from {', '.join(PRESETS)}")
    keep_freed_memory()
    members = f"{arguments.members} members"
    headings = ("preset", "one model, ms a step", f"{members}, ms a step", "ratio, median (range)")
    print(markdown.table(headings, [row(name, measure(name, arguments), arguments) for name in arguments.presets]))


if __name__ == "__main__":
    run_script(main, Arguments)
