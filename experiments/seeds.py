"""Trains several seeds at once and prints the spread of their test accuracy: `python -m experiments.seeds`.

One mapped, scanned, compiled program trains all of them. It uses only what `fmnist_jax` exports, and is short
enough to fork. On a CPU, where a mapped convolution becomes a slow grouped one, `lax.map` takes the seeds in
turn at the price of single runs; elsewhere `jax.vmap` takes them side by side.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array

from fmnist_jax import (
    Batch,
    DataConfig,
    ModelConfig,
    OptimConfig,
    init_state,
    load,
    make_model,
    make_optimizer,
    make_predict,
    make_schedule,
    make_train_step,
    sample_batch,
)


@dataclass(frozen=True)
class Arguments:
    """Trains several seeds at once and prints the spread of their test accuracy."""

    data: DataConfig = field(default_factory=lambda: DataConfig(name="synthetic", validation_size=0))
    model: ModelConfig = field(default_factory=lambda: ModelConfig(widths=(16, 32, 64)))
    optim: OptimConfig = field(default_factory=OptimConfig)
    seeds: int = 3
    """How many models to train."""
    steps: int = 200
    """Optimiser steps of each."""
    batch_size: int = 128
    """Images a step."""


def main(arguments: Arguments) -> np.ndarray:
    """Returns the test accuracy of each seed, f32[seeds]."""
    splits = load(arguments.data)
    train = jax.device_put(Batch(splits.train.images, splits.train.labels))
    model = make_model(arguments.model)
    optimizer = make_optimizer(arguments.optim, make_schedule(arguments.optim, arguments.steps))
    step = make_train_step(model, optimizer)
    predict = make_predict(model)

    def accuracy_of(key: Array) -> Array:
        def body(state, _):  # type: ignore[no-untyped-def]
            return step(state, sample_batch(train, state.key, state.step, arguments.batch_size))

        state, _ = jax.lax.scan(body, init_state(model, optimizer, key), length=arguments.steps)
        logits = predict(state.params, state.batch_stats, splits.test.images)
        return jnp.mean(logits.argmax(-1) == splits.test.labels)

    keys = jax.random.split(jax.random.key(0), arguments.seeds)
    on_cpu = jax.default_backend() == "cpu"
    accuracies = jax.jit(lambda keys: jax.lax.map(accuracy_of, keys) if on_cpu else jax.vmap(accuracy_of)(keys))(keys)
    return np.asarray(accuracies)


if __name__ == "__main__":
    found = main(tyro.cli(Arguments))
    print("test accuracy of each seed:", " ".join(f"{value:.2%}" for value in found))
    print(f"mean {found.mean():.2%}, standard deviation {found.std(ddof=1) if len(found) > 1 else float('nan'):.2%}")
