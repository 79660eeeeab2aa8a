"""Compares a GPU with the CPU of the same machine: `python -m experiments.parity --out parity.json`.

The same weights should give the same logits, and the same training the same losses, up to rounding: both multiply in
full float32, where a GPU would otherwise round the factors to TF32.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import rehearsal
from experiments.records import origin, prepare_output, write_json
from experiments.script import run_script, start_jax
from experiments.speedrun.entries import BASELINE, Device, with_mirroring
from fmnist_jax import (
    Batch,
    Config,
    Recipe,
    describe_environment,
    load,
    make_predict,
    make_recipe,
    summarize,
)

_STEPS, _IMAGES = 50, 1_000
# The largest difference allowed in each comparison: logits are of the order of 10, and a training run in which two
# weights were changed by one unit in the last place differed by 1.3e-2 after 50 steps (`demo`, on a CPU).
_TOLERANCES: Mapping[str, float] = {"logits": 1e-3, "first_loss": 1e-4, "last_losses": 0.1}


@dataclass(frozen=True)
class Arguments:
    """Compares a GPU with the CPU of the same machine."""

    out: Path
    """File to write the differences to."""
    device: Device = "gpu"
    """What to compare with the CPU; the CPU itself in a rehearsal."""
    rehearse: bool = False
    """Shrink network and data."""


def losses(recipe: Recipe, config: Config, data: Batch, device: Any) -> np.ndarray:
    """Trains on a device; returns the loss f32[steps] of each batch before its update."""

    @jax.jit
    def step(state: Any, data: Batch) -> tuple[Any, Any]:
        return recipe.step(state, recipe.sample(data, state.key, state.step, config.train.batch_size))

    state, data = jax.device_put((jax.jit(recipe.init)(jax.random.key(0)), data), device)
    batch_losses = []
    for _ in range(_STEPS):
        state, metrics = step(state, data)
        batch_losses.append(summarize(metrics).loss)
    return np.array(batch_losses)


def differences(cpu: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The largest differences of `logits` [N, K] and `losses` [steps], the latter as shares of the CPU's."""
    relative = np.abs(other["losses"] - cpu["losses"]) / cpu["losses"]
    return {
        "logits": float(np.abs(other["logits"] - cpu["logits"]).max()),
        "first_loss": float(relative[0]),
        "last_losses": float(relative[-10:].max()),
    }


def main(arguments: Arguments) -> int:
    """Compares, writes and prints the differences; returns how many are too large."""
    prepare_output(arguments.out)
    start_jax({"cpu": "cpu", "gpu": "cuda,cpu"}[arguments.device])
    jax.config.update("jax_default_matmul_precision", "highest")
    config = with_mirroring(rehearsal.shrink(BASELINE) if arguments.rehearse else BASELINE)
    images, _, test = load(config.data)
    recipe = make_recipe(config)
    state = jax.device_get(jax.jit(recipe.init)(jax.random.key(0)))
    predict, outputs = jax.jit(make_predict(recipe.model)), {}
    for name, device in {"cpu": jax.devices("cpu")[0], "other": jax.devices()[0]}.items():
        inputs = jax.device_put((state.params, state.batch_stats, test.images[:_IMAGES]), device)
        trained_losses = losses(recipe, config, Batch(images.images, images.labels), device)
        outputs[name] = {"logits": np.asarray(predict(*inputs)), "losses": trained_losses}
    errors = differences(outputs["cpu"], outputs["other"])
    failures = [name for name, value in errors.items() if not value <= _TOLERANCES[name]]
    provenance = origin(describe_environment())
    write_json(
        arguments.out, {**provenance, "differences": errors, "tolerances": dict(_TOLERANCES), "failed": failures}
    )
    for name, value in errors.items():
        print(
            f"{name}: {value:.2e}, {'TOO LARGE' if name in failures else 'within rounding'} ({_TOLERANCES[name]:.0e})"
        )
    return len(failures)


if __name__ == "__main__":
    run_script(lambda arguments: sys.exit(main(arguments)), Arguments)
