"""Checkpoints that cannot be believed are moved out of the way, so that a run goes on from the one before."""

import itertools
import os
import shutil
from pathlib import Path

from fmnist_jax.config import paths
from fmnist_jax.errors import CheckpointError, in_one_line
from fmnist_jax.runs import store
from fmnist_jax.runs.checkpoint import Tree, restore, steps


def restore_latest(directory: str | os.PathLike[str], state: Tree) -> Tree:
    """Restores the newest checkpoint that can be believed, or gives back the state where none has been saved.

    So a program goes on where an earlier process of it was killed. A damaged checkpoint is moved into `damaged/` beside
    the directory.

    Args:
      directory: of the checkpoints.
      state: what the program begins with, a pytree as for `restore`.

    Raises:
      CheckpointError: there are checkpoints, but none that can be believed, or they are of another kind of state.
    """
    directory = paths.expanded(directory)
    set_aside(directory)
    found = steps(directory)
    return restore(directory, found[-1], state) if found else state


def _free(path: Path) -> Path:
    """The path itself if nothing is there, else the first of `-2`, `-3`, … behind it that is free."""
    others = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], others) if not each.exists())


def set_aside(directory: Path) -> list[str]:
    """Moves each checkpoint that cannot be believed into `damaged/` beside the directory.

    Returns:
      A sentence on each.

    Raises:
      CheckpointError: there are checkpoints, but none that can be believed, or one of the others cannot be moved.
    """
    found, problems = steps(directory), dict[int, str]()
    for step in found:
        try:
            store.read(directory / str(step))
        except CheckpointError as error:
            problems[step] = str(error)
    if problems and len(problems) == len(found):
        raise CheckpointError(f"{'; '.join(problems.values())}; no other is left: start anew in another directory")
    for step in problems:
        aside = _free(directory.parent / "damaged" / str(step))
        try:
            aside.parent.mkdir(exist_ok=True)
            shutil.move(directory / str(step), aside)  # the checkpoints may lie on another disk
        except (OSError, shutil.Error) as error:
            raise CheckpointError(f"{problems[step]}; it cannot be moved to {aside} ({in_one_line(error)})") from error
    return list(problems.values())
