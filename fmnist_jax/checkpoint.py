"""Checkpoints through Orbax: the latest and the best are kept, and come back bit for bit."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from fmnist_jax.errors import CheckpointError
from fmnist_jax.state import TrainState

_METRIC = "val_accuracy"

UNSCORED = -1.0
"""Stands for the validation accuracy of a checkpoint that was not evaluated: worse than any."""


def open_manager(directory: Path) -> ocp.CheckpointManager:
    """Opens (making it if missing) a directory that keeps the latest and the best checkpoint.

    Best is by validation accuracy, the later of two that are equal.

    Raises:
      CheckpointError: the directory cannot be made.
    """
    best = policies.BestN(get_metric_fn=_accuracy, n=1)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(1), best]),
        best_fn=_accuracy,
        cleanup_tmp_directories=True,
    )
    try:
        return ocp.CheckpointManager(directory.absolute(), options=options)
    except OSError as error:
        raise CheckpointError(f"cannot use {directory} ({error}): choose another --run.dir") from error


def _accuracy(metrics: Mapping[str, float]) -> float:
    return metrics[_METRIC]


def snapshot(state: TrainState) -> TrainState:
    """Copies the state to NumPy, its key as u32 key data: what is saved, whatever becomes of the state."""
    # A real copy: on the CPU an array may share the buffer that the next step, donated it, overwrites.
    return jax.tree.map(np.array, _with_key_data(state))


def _with_key_data(state: TrainState) -> TrainState:
    return dataclasses.replace(state, key=jax.random.key_data(state.key))


def save(manager: ocp.CheckpointManager, state: TrainState, val_accuracy: float = UNSCORED) -> None:
    """Starts saving the state under its step; `manager.wait_until_finished()` waits for the disk."""
    copy = snapshot(state)
    manager.save(int(copy.step), args=ocp.args.StandardSave(copy), metrics={_METRIC: val_accuracy})


def restore(manager: ocp.CheckpointManager, step: int, like: TrainState) -> TrainState:
    """Restores the checkpoint of a step.

    Args:
      manager: of the directory.
      step: one of `manager.all_steps()`.
      like: a state, abstract or not, with the structure, shapes and dtypes that are expected.

    Raises:
      CheckpointError: it is damaged, or of another model or optimiser.
    """
    saved_as = jax.eval_shape(_with_key_data, like)
    try:
        state = manager.restore(step, args=ocp.args.StandardRestore(saved_as))
    except (ValueError, TypeError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"checkpoint {step} in {manager.directory} cannot be restored ({reason}): it is damaged, or of "
            f"another model or optimiser; start anew with another --run.dir"
        ) from error
    return jax.device_put(dataclasses.replace(state, key=jax.random.wrap_key_data(state.key)))


def state_digest(state: TrainState) -> str:
    """SHA-256, as hex, over the path, dtype, shape and bytes of every leaf of the state."""
    sha = hashlib.sha256()
    leaves: list[tuple[Any, np.ndarray]] = jax.tree_util.tree_leaves_with_path(snapshot(state))
    for path, leaf in leaves:
        sha.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        sha.update(np.ascontiguousarray(leaf).data)
    return sha.hexdigest()
