"""Turns the unfinished run of the fixture `saved_run` into a finished one."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp

from fmnist_jax.config.schema import DataConfig
from fmnist_jax.data.dataset import Splits, load
from fmnist_jax.functional.recipe import make_recipe
from fmnist_jax.runs import checkpoint
from fmnist_jax.runs.directory import read_config


def take_all_steps(run: Path) -> None:
    """Adds a checkpoint of the last step to a copy of `saved_run`."""
    config, manifest = read_config(run), checkpoint.read_manifest(run / "checkpoints", 5)
    assert config is not None
    state = replace(jax.jit(make_recipe(config).init)(jax.random.key(0)), step=jnp.int32(config.total_steps))
    checkpoint.save(run / "checkpoints", state, 0.5, origin=manifest["origin"])


def loading_meanwhile(run: Path) -> Callable[[DataConfig], Splits]:
    """Makes a `load` during which the run takes its last steps, and deletes the checkpoint that it had."""

    def load_slowly(config: DataConfig) -> Splits:
        take_all_steps(run)
        shutil.rmtree(run / "checkpoints" / "5")
        return load(config)

    return load_slowly
