"""How Orbax is used: to keep checkpoints in a directory, and to read one of them.

A checkpoint is two Orbax items: `state`, a flat mapping from the names of the leaves (`params.Conv_0.kernel`)
to arrays, and `manifest`, JSON with the SHA-256 of each of them, because Orbax does not check payload bytes.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from fmnist_jax.errors import CheckpointError, FmnistError, in_one_line
from fmnist_jax.runs import manifest
from fmnist_jax.runs.leaves import Snapshot
from fmnist_jax.system.storage import error_reason, error_remedy

METRIC = "val_accuracy"

Leaves = Mapping[str, np.ndarray]
"""Arrays by name."""

MIN_KEPT = 2  # newest checkpoints: if the last one is damaged, the one before it is used

# Where Orbax moves a checkpoint before it is deleted. That is one step, and a deletion is one for each file: half of it
# would look like damage to another process, or after a kill.
_DELETED = ".deleted"

# A file that one of these keeps from being read may be intact.
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT)


def open_manager(directory: Path, latest: int = MIN_KEPT) -> ocp.CheckpointManager:
    """Opens (making it if missing) a directory that keeps the latest checkpoints and the best.

    The best has the highest validation accuracy; of two that are equal, the later.

    Raises:
      CheckpointError: the directory cannot be made.
    """
    best = policies.BestN(get_metric_fn=_accuracy, n=1)
    multiprocessing_options = _single_process_options()
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(latest), best]),
        best_fn=_accuracy,
        cleanup_tmp_directories=True,
        create=False,
        todelete_subdir=_DELETED,
        multiprocessing_options=multiprocessing_options,
    )
    handlers = {
        "state": ocp.StandardCheckpointHandler(multiprocessing_options=multiprocessing_options),
        "manifest": ocp.JsonCheckpointHandler(multiprocessing_options=multiprocessing_options),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        remove_deleted(directory)  # what a killed process has left
        return ocp.CheckpointManager(directory.absolute(), options=options, item_handlers=handlers)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot use {directory} ({in_one_line(error)}): choose another --run.dir") from error


def close_manager(manager: ocp.CheckpointManager) -> None:
    """Closes a directory of checkpoints, and deletes those that have been replaced."""
    with suppress(Exception):  # from a failed save, which the caller has reported
        manager.close()
    remove_deleted(Path(manager.directory))
    with suppress(OSError):
        (Path(manager.directory) / _DELETED).rmdir()


def remove_deleted(directory: Path) -> None:
    """Deletes the checkpoints that have been replaced by newer ones."""
    for replaced in (directory / _DELETED).glob("*"):
        shutil.rmtree(replaced, ignore_errors=True)


def _single_process_options() -> ocp.options.MultiprocessingOptions:
    """Keeps Orbax from waiting for other processes: where there are several, the first reads and writes for all."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    return ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="first_process"
    )


def _accuracy(metrics: Mapping[str, float]) -> float:
    return metrics[METRIC]


def start_saving(manager: ocp.CheckpointManager, step: int, saved: Snapshot, manifest_dict: Mapping[str, Any]) -> None:
    """Waits for the previous save, deletes what it has replaced, then starts this one."""
    manager.wait_until_finished()
    remove_deleted(Path(manager.directory))
    # Orbax refuses empty arrays, which the manifest describes completely.
    leaves = {name: leaf for name, leaf in saved.leaves.items() if leaf.size}
    args = ocp.args.Composite(state=ocp.args.StandardSave(leaves), manifest=ocp.args.JsonSave(manifest_dict))
    manager.save(step, args=args, metrics={METRIC: manifest_dict["val_accuracy"]}, force=True)


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest of one checkpoint."""
    multiprocessing_options = _single_process_options()
    handler = ocp.JsonCheckpointHandler(multiprocessing_options=multiprocessing_options)
    return ocp.Checkpointer(handler, multiprocessing_options=multiprocessing_options).restore(
        path.absolute() / "manifest"
    )


def read(path: Path) -> Snapshot:
    """Reads one checkpoint, which may be damaged, and compares every byte with its manifest.

    Raises:
      CheckpointError: it is damaged.
      FmnistError: it cannot be read, for lack of permission.
    """
    return _read_verified(path, _read_leaves_serially)


def read_back(path: Path) -> Snapshot:
    """Reads a checkpoint that has just been written, like `read` but twenty times as fast: 0.03 s for `fast`.

    Raises:
      CheckpointError: it is damaged.
    """
    return _read_verified(path, _read_leaves)


def _read_verified(path: Path, read_leaves: Callable[[Path, Leaves], Leaves]) -> Snapshot:
    try:
        manifest_dict = read_manifest(path)
        manifest.check(manifest_dict, int(path.name), json.loads((path / "metrics" / "metrics").read_text()))
        like = {name: np.empty(leaf["shape"], leaf["dtype"]) for name, leaf in manifest_dict["leaves"].items()}
        written = {name: leaf for name, leaf in like.items() if leaf.size}
        leaves = {**like, **read_leaves(path.absolute() / "state", written)}
        manifest.check_leaves(manifest_dict, leaves)
    # Whatever else Orbax, TensorStore or JSON raise over a file, it means that the file is damaged.
    except Exception as error:
        cause = _system_error(error)
        if cause is not None and cause.errno in _UNREADABLE:
            # Not a `CheckpointError`, upon which the checkpoint would be set aside as damaged.
            raise FmnistError(
                f"checkpoint {path} cannot be read ({error_reason(cause)}): {error_remedy(cause)}"
            ) from error
        raise CheckpointError(f"checkpoint {path.name} in {path.parent} is damaged ({in_one_line(error)})") from error
    return Snapshot(leaves, dict(manifest_dict.get("keys", {})))


def explain(error: Exception) -> str:
    """Why Orbax or TensorStore could not write, in brackets, and how to mend it."""
    cause = _system_error(error)
    if cause is None:  # then lack of space is the likeliest cause
        return f"({in_one_line(error)}): free space there"
    return f"({error_reason(cause)}): {error_remedy(cause)}"


def _system_error(error: Exception) -> OSError | None:
    """The error of the system that one of Orbax or TensorStore is, or tells by its number."""
    if isinstance(error, OSError):
        return error
    if told := re.search(r"os_error_code='(\d+)'", str(error)):  # by TensorStore
        number = int(told[1])
    elif "PERMISSION_DENIED" in str(error):  # by its old versions
        number = errno.EACCES
    else:
        return None
    return OSError(number, os.strerror(number))


def _read_leaves_serially(path: Path, like: Leaves) -> Leaves:
    """Reads the leaves one at a time.

    With several in flight, the first that fails ends Orbax's event loop, and TensorStore prints a traceback
    for each of the others.
    """
    leaves: dict[str, np.ndarray] = {}
    for name, leaf in like.items():
        leaves.update(_read_leaves(path, {name: leaf}))
    return leaves


def _read_leaves(path: Path, like: Leaves) -> Leaves:
    as_numpy = dict.fromkeys(like, ocp.RestoreArgs(restore_type=np.ndarray))
    args = ocp.args.PyTreeRestore(dict(like), restore_args=as_numpy, partial_restore=True)
    multiprocessing_options = _single_process_options()
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=multiprocessing_options)
    return ocp.Checkpointer(handler, multiprocessing_options=multiprocessing_options).restore(path, args=args)
