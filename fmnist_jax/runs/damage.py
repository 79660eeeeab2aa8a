"""Moves damaged checkpoints out of the way, so that a run resumes from the newest intact one."""

import os
import shutil
from pathlib import Path

from fmnist_jax.config import paths
from fmnist_jax.errors import CheckpointError, in_one_line
from fmnist_jax.runs import store
from fmnist_jax.runs.checkpoint import Tree, restore, steps
from fmnist_jax.system.storage import numbered


def restore_latest(directory: str | os.PathLike[str], state: Tree) -> Tree:
    """Restores the newest intact checkpoint, or returns the given state if none has been saved.

    A program thus resumes where an earlier process of it was killed. Damaged checkpoints are moved into `damaged/`
    beside the directory.

    Args:
      directory: where the checkpoints are kept.
      state: the state that the program starts from, a pytree as for `restore`.

    Raises:
      CheckpointError: there are checkpoints but no intact one, or the newest is of another kind of state.
    """
    directory = paths.expand(directory)
    quarantine_damaged(directory)
    found = steps(directory)
    return restore(directory, found[-1], state) if found else state


def quarantine_damaged(directory: Path) -> list[str]:
    """Moves each damaged checkpoint into `damaged/` beside the directory.

    Returns:
      One sentence about each.

    Raises:
      CheckpointError: there are checkpoints but no intact one, or a damaged one cannot be moved.
    """
    existing, problems = steps(directory), dict[int, str]()
    for step in existing:
        try:
            store.read(directory / str(step))
        except CheckpointError as error:
            problems[step] = str(error)
    if problems and len(problems) == len(existing):
        raise CheckpointError(f"{'; '.join(problems.values())}; no other is left: start anew in another directory")
    for step in problems:
        candidates = numbered(directory.parent / "damaged" / str(step))
        destination = next(path for path in candidates if not os.path.lexists(path))  # a dangling link exists, too
        try:
            destination.parent.mkdir(exist_ok=True)
            shutil.move(directory / str(step), destination)  # the checkpoints may be on another disk
        except (OSError, shutil.Error) as error:
            raise CheckpointError(
                f"{problems[step]}; it cannot be moved to {destination} ({in_one_line(error)})"
            ) from error
    return list(problems.values())
