"""Checkpoints through Orbax that can be believed: each is verified, byte for byte, before it is used.

A checkpoint is two Orbax items: `state`, a flat mapping from the names of the leaves (`params.Conv_0.kernel`)
to arrays, and `manifest`, JSON with the SHA-256 of each of them, because Orbax does not check payload bytes.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.tree_util import keystr
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from fmnist_jax.errors import CheckpointError, DivergenceError
from fmnist_jax.functional.state import TrainState
from fmnist_jax.runs import manifest

UNSCORED = -1.0
"""Stands for the validation accuracy of a checkpoint that was not evaluated: worse than any."""

_METRIC = "val_accuracy"
_KEPT = 2  # the newest checkpoints: should the last one be damaged, the one before it serves


def open_manager(directory: Path) -> ocp.CheckpointManager:
    """Opens (making it if missing) a directory that keeps the two latest checkpoints and the best.

    Best is by validation accuracy, the later of two that are equal. Call `set_aside_damaged` first where
    an earlier process may have been killed.

    Raises:
      CheckpointError: the directory cannot be made.
    """
    best = policies.BestN(get_metric_fn=_accuracy, n=1)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(_KEPT), best]),
        best_fn=_accuracy,
        cleanup_tmp_directories=True,
    )
    handlers = {"state": ocp.StandardCheckpointHandler(), "manifest": ocp.JsonCheckpointHandler()}
    try:
        return ocp.CheckpointManager(directory.absolute(), options=options, item_handlers=handlers)
    except OSError as error:
        raise CheckpointError(f"cannot use {directory} ({error}): choose another --run.dir") from error


@contextmanager
def writing(directory: Path) -> Iterator[ocp.CheckpointManager]:
    """Opens a directory as `open_manager` does, and closes it when the block ends.

    If the block fails, a save that fails with it is not reported over its error.
    """
    manager = open_manager(directory)
    try:
        yield manager
    except BaseException:
        with suppress(OSError, ValueError):
            manager.close()
        raise
    manager.close()


def _accuracy(metrics: Mapping[str, float]) -> float:
    return metrics[_METRIC]


def save(
    manager: ocp.CheckpointManager,
    state: TrainState,
    val_accuracy: float = UNSCORED,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Starts saving the state under its step; `wait` waits until it is on the disk.

    Args:
      manager: where to.
      state: what; it may be donated once this returns.
      val_accuracy: by which the best checkpoint is chosen.
      origin: JSON values that say where the state comes from, kept in the manifest.

    Raises:
      DivergenceError: a leaf is not finite; nothing is saved.
      CheckpointError: this checkpoint, or the one before, cannot be written.
    """
    leaves = _snapshot(state)
    for name, leaf in leaves.items():
        if np.issubdtype(leaf.dtype, np.floating) and not np.isfinite(leaf).all():
            raise DivergenceError(f"{name} is not finite after step {int(leaves['step'])}: lower --optim.peak-lr")
    described = manifest.make(leaves, val_accuracy, origin or {})
    args = ocp.args.Composite(state=ocp.args.StandardSave(leaves), manifest=ocp.args.JsonSave(described))
    try:
        manager.save(int(leaves["step"]), args=args, metrics={_METRIC: val_accuracy}, force=True)
    except (OSError, ValueError) as error:
        raise _unwritten(manager, leaves, error) from error


def wait(manager: ocp.CheckpointManager, state: TrainState) -> None:
    """Waits until what has been saved is on the disk.

    Raises:
      CheckpointError: it cannot be written.
    """
    try:
        manager.wait_until_finished()
    except (OSError, ValueError) as error:
        raise _unwritten(manager, _snapshot(state), error) from error


def restore(directory: Path, step: int, like: TrainState) -> TrainState:
    """Restores and verifies the checkpoint of a step.

    Args:
      directory: of the checkpoints.
      step: one of `steps(directory)`.
      like: a state, abstract or not, with the structure, shapes and dtypes that are expected.

    Raises:
      CheckpointError: it is damaged, or of another model or optimiser.
    """
    leaves = _read(directory / str(step))
    expected, structure = _named(_with_key_data(like))
    found = {name: (leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
    if found != {name: (leaf.shape, leaf.dtype) for name, leaf in expected.items()}:
        raise CheckpointError(
            f"checkpoint {step} in {directory} is of another model or optimiser than the configuration names: "
            f"restore it with the code and configuration that wrote it, or start anew with another --run.dir"
        )
    state: TrainState = jax.tree.unflatten(structure, [leaves[name] for name in expected])
    return jax.device_put(replace(state, key=jax.random.wrap_key_data(state.key)))


def read_manifest(directory: Path, step: int) -> dict[str, Any]:
    """Reads the manifest of a step, which `restore` verifies: `val_accuracy` and `origin` are as `save` was given them.

    Raises:
      CheckpointError: it is damaged.
    """
    try:
        described = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(directory.absolute() / str(step) / "manifest")
        return {**described, "val_accuracy": float(described["val_accuracy"]), "origin": dict(described["origin"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {step} in {directory} has no manifest that can be read") from error


def steps(directory: Path) -> list[int]:
    """Lists the steps that have a checkpoint, believable or not, in ascending order."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())


def set_aside_damaged(directory: Path) -> list[str]:
    """Moves each checkpoint that cannot be believed into `damaged/` beside the directory.

    Returns:
      A sentence on each.

    Raises:
      CheckpointError: there are checkpoints, but none that can be believed.
    """
    problems: list[str] = []
    found = steps(directory)
    for step in found:
        try:
            _read(directory / str(step))
        except CheckpointError as error:
            problems.append(str(error))
    if problems and len(problems) == len(found):
        raise CheckpointError(f"{'; '.join(problems)}; no other is left: start anew with another --run.dir")
    for step in found:
        if any(f"checkpoint {step} in " in problem for problem in problems):
            aside = directory.parent / "damaged" / str(step)
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            (directory / str(step)).rename(aside)
    return problems


def state_digest(state: TrainState) -> str:
    """SHA-256, as hex, over the name, dtype, shape and bytes of every leaf of the state."""
    described = {name: manifest.describe(leaf) for name, leaf in _snapshot(state).items()}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _snapshot(state: TrainState) -> dict[str, np.ndarray]:
    """Copies every leaf to NumPy, by name, the key as u32 key data."""
    # A real copy: on the CPU an array may share the buffer that the next step, donated it, overwrites.
    return {name: np.array(leaf) for name, leaf in jax.device_get(_named(_with_key_data(state))[0]).items()}


def _named(state: TrainState) -> tuple[dict[str, Any], Any]:
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    return {keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}, structure


def _with_key_data(state: TrainState) -> TrainState:
    if isinstance(state.key, jax.ShapeDtypeStruct):
        return replace(state, key=jax.eval_shape(jax.random.key_data, state.key))
    return replace(state, key=jax.random.key_data(state.key))


def _read(path: Path) -> dict[str, np.ndarray]:
    """Reads one checkpoint and compares every byte with its manifest.

    Raises:
      CheckpointError: it is damaged.
    """
    try:
        described = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(path.absolute() / "manifest")
        manifest.check(described, int(path.name), json.loads((path / "metrics" / "metrics").read_text()))
        like = {name: np.empty(leaf["shape"], leaf["dtype"]) for name, leaf in described["leaves"].items()}
        leaves = _read_leaves(path.absolute() / "state", like)
        manifest.check_leaves(described, leaves)
    # Whatever a damaged file makes Orbax, TensorStore or JSON say, it says that the file is damaged.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(f"checkpoint {path.name} in {path.parent} is damaged ({reason})") from error
    return leaves


def _read_leaves(path: Path, like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Reads the leaves one at a time.

    With several in flight, the first that fails ends Orbax's event loop, and TensorStore prints a traceback
    for each of the others.
    """
    checkpointer = ocp.PyTreeCheckpointer()
    as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
    leaves: dict[str, np.ndarray] = {}
    for name, leaf in like.items():
        args = ocp.args.PyTreeRestore({name: leaf}, restore_args={name: as_numpy}, partial_restore=True)
        leaves |= checkpointer.restore(path, args=args)
    return leaves


def _unwritten(manager: ocp.CheckpointManager, leaves: Mapping[str, np.ndarray], error: Exception) -> CheckpointError:
    needed = sum(leaf.nbytes for leaf in leaves.values())
    reason = " ".join(str(error).split())[:200]
    return CheckpointError(
        f"cannot write a checkpoint of {needed:,} bytes into {manager.directory} ({reason}): free space there and "
        f"start again with the same --run.dir; earlier checkpoints are whole"
    )
