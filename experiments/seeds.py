"""Trains several seeds at once and prints the spread of their test accuracy: `python -m experiments.seeds`.

One compiled program trains all of them, side by side on an accelerator and in turn on a CPU, and the mean of their
probabilities is scored beside them. It uses only what `fmnist_jax` exports, and is short enough to fork; the command
that keeps checkpoints and writes a report is `python -m fmnist_jax.train --population.seeds 8`.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from fmnist_jax import (
    Batch,
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    compiler_options,
    load,
    make_population,
    mean_log_probabilities,
    members_map,
)


@dataclass(frozen=True)
class Arguments:
    """Trains several seeds at once and prints the spread of their test accuracy."""

    data: DataConfig = field(default_factory=lambda: DataConfig(name="synthetic", validation_size=0))
    model: ModelConfig = field(default_factory=lambda: ModelConfig(widths=(16, 32, 64)))
    optim: OptimConfig = field(default_factory=OptimConfig)
    seeds: int = 3
    """How many models to train."""
    epochs: int = 2
    """Passes of each over the training images."""
    batch_size: int = 128
    """Images a step."""


class Accuracies(NamedTuple):
    """On the test images."""

    members: np.ndarray
    """f32[seeds]."""
    ensemble: float


def main(arguments: Arguments) -> Accuracies:
    """Trains and scores all seeds."""
    train = TrainConfig(epochs=arguments.epochs, batch_size=arguments.batch_size)
    config = Config(data=arguments.data, model=arguments.model, optim=arguments.optim, train=train)
    images, _, test = load(config.data)
    population = make_population(config, over_members=members_map(jax.default_backend()), max_steps=config.total_steps)
    states = jax.jit(population.init)(jax.random.split(jax.random.key(0), arguments.seeds))
    chunk = jax.jit(population.chunk, donate_argnums=0, compiler_options=compiler_options("training"))
    data = jax.device_put(Batch(images.images, images.labels))
    states, _ = chunk(states, data, jnp.int32(config.total_steps))
    logits = jax.jit(population.predict)(states.params, states.batch_stats, test.images)
    right = logits.argmax(-1) == test.labels[None]
    ensemble = mean_log_probabilities(logits).argmax(-1) == test.labels
    return Accuracies(np.asarray(right.mean(-1)), float(ensemble.mean()))


if __name__ == "__main__":
    found, together = main(tyro.cli(Arguments))
    print("test accuracy of each seed:", " ".join(f"{value:.2%}" for value in found))
    print(f"mean {found.mean():.2%}, standard deviation {found.std(ddof=1) if len(found) > 1 else float('nan'):.2%}")
    print(f"mean of their probabilities: {together:.2%}")
