"""Checkpoints that can be trusted: each is verified byte for byte after it is written, and again before it is used."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex, TypeVar

import orbax.checkpoint as ocp

from fmnist_jax.config import paths
from fmnist_jax.errors import CheckpointError, DivergenceError, FmnistError
from fmnist_jax.runs import manifest, store
from fmnist_jax.runs.directory import RESUME_HINT
from fmnist_jax.runs.leaves import Snapshot, first_nonfinite, rebuild, snapshot
from fmnist_jax.runs.numbering import UNSCORED, recorded_score, refuse_used_step, step_number
from fmnist_jax.system.storage import error_reason, error_remedy

Tree = TypeVar("Tree")
"""Any pytree of arrays and keys."""


class Writer:
    """Saves checkpoints in the background; `writing` opens one, and closes it when its block ends."""

    def __init__(self, manager: ocp.CheckpointManager) -> None:
        """Takes the Orbax manager to write with."""
        self._manager = manager
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-reader")
        self._newest_step: int | None = None  # the newest save; it may still be under way
        self._pending_read: Future[Snapshot] | None = None

    def save(
        self,
        state: Any,
        val_accuracy: SupportsFloat = UNSCORED,
        *,
        step: SupportsIndex | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts saving a state; meanwhile the previous save is read back in a separate thread.

        Args:
          state: any pytree of arrays and keys; it may be donated once this returns.
          val_accuracy: the score by which the best checkpoint is chosen, 0 or more; NaN counts as unscored.
          step: the checkpoint's number, 0 or more; by default `state.step`.
          origin: JSON values that say where the state comes from, kept in the manifest.

        Raises:
          CheckpointError: this checkpoint or an earlier one cannot be written or read back, the state has no values,
            the score is negative, or the step is missing, negative, already taken or below another checkpoint's.
        """
        saved = snapshot(state)
        if not any(leaf.size for leaf in saved.leaves.values()):
            raise CheckpointError("the state has no value to save: give a pytree with a non-empty array")
        number, score = step_number(state, step), recorded_score(val_accuracy)
        refuse_used_step(number, self._manager.all_steps(), self._manager.directory)
        self._finish_read_back()
        manifest_dict = manifest.make_manifest(saved.leaves, saved.keys, number, score, origin or {})
        try:
            store.start_saving(self._manager, number, saved, manifest_dict)
        except Exception as error:  # what Orbax and TensorStore raise of a file system is of many types
            raise self._write_error(error) from error
        self._start_read_back()
        self._newest_step = number

    def wait(self) -> None:
        """Waits until everything saved is on the disk and has been read back.

        Raises:
          CheckpointError: it cannot be written or read back.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._write_error(error) from error
        self._finish_read_back()
        self._start_read_back()
        self._finish_read_back()
        self._newest_step = None

    def close(self) -> None:
        """Waits, then releases the directory.

        Raises:
          CheckpointError: something saved cannot be written or read back.
        """
        try:
            self.wait()
        finally:
            self._reader.shutdown()
            store.close_manager(self._manager)

    def _start_read_back(self) -> None:
        """Starts reading the newest save, which is on the disk."""
        if self._newest_step is not None:
            path = Path(self._manager.directory) / str(self._newest_step)
            self._pending_read = self._reader.submit(store.read_back, path)

    def _finish_read_back(self) -> None:
        """Waits for the checkpoint that is being read back, if any.

        Raises:
          CheckpointError: it differs from what was written.
        """
        reading, self._pending_read = self._pending_read, None
        if reading is None:
            return
        try:
            reading.result()
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}, though it was written: check the disk, or choose another --run.dir"
            ) from error
        except FmnistError as error:  # it may be intact
            raise CheckpointError(f"{error}, then {RESUME_HINT}") from error

    def _write_error(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"cannot write a checkpoint into {self._manager.directory} {store.explain(error)} and {RESUME_HINT}; "
            "earlier checkpoints are intact"
        )


@contextmanager
def writing(directory: str | os.PathLike[str], *, latest: int = store.MIN_KEPT) -> Iterator[Writer]:
    """Opens a directory that keeps the latest checkpoints and the best, and closes it when the block ends.

    If the block raises, a save that also fails does not mask its error. Call `restore_latest` first where an earlier
    process may have been killed.

    Args:
      directory: where the checkpoints are kept, made if missing.
      latest: how many to keep besides the one with the highest `val_accuracy`; each save deletes the others.

    Raises:
      CheckpointError: `latest` is below 2, the directory is "" or cannot be made, or a save cannot be written or read
        back.
    """
    if not os.fspath(directory):
        raise CheckpointError("the directory is '': give its path, or '.' for the working directory")
    if latest < store.MIN_KEPT:
        raise CheckpointError(
            f"latest is {latest}: keep {store.MIN_KEPT} or more, as the last may turn out to be damaged"
        )
    writer = Writer(store.open_manager(paths.expand(directory), latest))
    try:
        yield writer
    except BaseException:
        with suppress(OSError, ValueError, CheckpointError):
            writer.close()
        raise
    writer.close()


def save(
    directory: str | os.PathLike[str],
    state: Any,
    val_accuracy: SupportsFloat = UNSCORED,
    *,
    step: SupportsIndex | None = None,
    origin: Mapping[str, Any] | None = None,
    latest: int = store.MIN_KEPT,
) -> None:
    """Saves a state into a directory: when this returns, the checkpoint is on the disk and has been read back.

    The directory keeps the `latest` newest and the one with the highest `val_accuracy`; the others are deleted. All
    other arguments and errors are those of `Writer.save`; a loop that should not wait keeps `writing(directory)` open.
    """
    with writing(directory, latest=latest) as writer:
        writer.save(state, val_accuracy, step=step, origin=origin)


def restore(directory: str | os.PathLike[str], step: SupportsIndex, like: Tree, *, without: str | None = None) -> Tree:
    """Restores and verifies the checkpoint of a step.

    Args:
      directory: where the checkpoints are kept.
      step: that of an existing checkpoint; `restore_latest` takes the newest.
      like: a pytree, abstract or not, with the expected structure, shapes, dtypes and (if any) shardings.
      without: a field of the saved state that is not restored, as `like` has no leaves for it.

    Raises:
      CheckpointError: there is none, or it is damaged or of another model or optimiser; the message names the first
        leaf that differs.
    """
    folder, number = paths.expand(directory), step_number(like, step)
    if number not in (known := steps(folder)):
        raise CheckpointError(f"{folder} has no checkpoint {number}: it has {', '.join(map(str, known)) or 'none'}")
    saved = store.read(folder / str(number)).without(without)
    try:
        return rebuild(saved, like)
    except ValueError as error:
        raise CheckpointError(
            f"checkpoint {step} in {directory} is of a different model or optimiser from the configuration's "
            f"({error}): restore it with the code and configuration that wrote it, or start anew with another --run.dir"
        ) from error


def check_finite(state: Any, step: int) -> None:
    """Checks that a state may be saved: all its values must be finite.

    Raises:
      DivergenceError: one is not finite.
    """
    if (name := first_nonfinite(state)) is not None:
        raise DivergenceError(f"{name} is not finite after step {step}: lower --optim.peak-lr, with another --run.dir")


def read_manifest(directory: Path, step: int) -> dict[str, Any]:
    """Reads the manifest of a step, unverified (`restore` verifies it), with `val_accuracy` and `origin` as saved.

    Raises:
      CheckpointError: it is missing or damaged.
    """
    try:
        described = store.read_manifest(directory / str(step))
        return {**described, "val_accuracy": float(described["val_accuracy"]), "origin": dict(described["origin"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"checkpoint {step} in {directory} has no readable manifest") from error


def steps(directory: Path) -> list[int]:
    """Lists the steps that have a checkpoint, damaged or not, in ascending order.

    Raises:
      CheckpointError: the directory exists but cannot be read.
    """
    try:
        return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be read ({error_reason(error)}): {error_remedy(error)}") from error
