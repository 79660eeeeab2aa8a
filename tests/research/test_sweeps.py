"""Hyper-parameter sweeps in one `jax.vmap`, against single runs with the same values."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import fmnist_jax as fj


def train_losses(config: fj.Config, batch: fj.Batch) -> Array:
    """The summed losses of four steps."""
    recipe = fj.make_recipe(config)
    chunk = fj.make_train_chunk(recipe.step, batch_size=8, max_steps=4, sample=recipe.sample)
    return chunk(recipe.init(jax.random.key(0)), jax.tree.map(jnp.asarray, batch), jnp.int32(4))[1].loss_sum


SMALL = fj.Config(
    data=fj.DataConfig(name="synthetic", synthetic_train_size=32, validation_size=0),
    model=fj.ModelConfig(family="plain", widths=(4, 4), depths=(1, 1)),
    optim=fj.OptimConfig(peak_lr=0.1, warmup=0.0),
    train=fj.TrainConfig(epochs=1, batch_size=8),
)


def test_vmapped_sweep_matches_single_runs(batch: fj.Batch) -> None:
    def run(hyper_parameters: Any) -> Array:
        names = ("clip_norm", "warmup", "momentum", "peak_lr", "weight_decay")
        optim = replace(SMALL.optim, **{name: hyper_parameters[name] for name in names})
        model = replace(SMALL.model, dropout=hyper_parameters["dropout"])
        augment = replace(
            SMALL.augment, crop_padding=hyper_parameters["padding"], rotation=hyper_parameters["rotation"]
        )
        return train_losses(replace(SMALL, optim=optim, model=model, augment=augment), batch)

    grid = {"clip_norm": [1.0, 0.2], "warmup": [0.5, 0.0], "momentum": [0.9, 0.5], "peak_lr": [0.05, 0.1]}
    grid |= {"weight_decay": [0.0, 2.0], "dropout": [0.2, 0.5], "padding": [0, 3], "rotation": [15.0, 5.0]}
    swept = jax.jit(jax.vmap(run))({name: jnp.array(values) for name, values in grid.items()})
    single = jax.jit(lambda: run({name: values[1] for name, values in grid.items()}))()
    np.testing.assert_allclose(swept[1], single, rtol=2e-3)
    assert abs(swept[0] - swept[1]).min() > 1e-3
