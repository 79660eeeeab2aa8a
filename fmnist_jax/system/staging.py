"""New directories that appear with all of their files at once, or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fmnist_jax.errors import FmnistError
from fmnist_jax.system.storage import (
    UNFINISHED,
    check_writable,
    convert_write_errors,
    directory_for_files,
    error_reason,
)


def refuse_taken(path: Path, flag: str) -> None:
    """Checks, without writing anything, that a path can become a new directory, or is an empty one to replace.

    Raises:
      FmnistError: it is neither, and the message names `flag`, to choose another; or another process is writing it.
    """
    check_writable(path, flag)
    if path.exists():
        try:
            is_empty = not any(path.iterdir())
        except OSError as error:
            raise FmnistError(f"{path} cannot be read ({error_reason(error)}): choose another {flag}") from error
        if not is_empty:
            raise FmnistError(f"{path} has files in it: choose another {flag}, or delete them")
        if (kind := _why_irreplaceable(path)) is not None:
            raise FmnistError(f"{path} is {kind}, which cannot be replaced: give a new directory in it for {flag}")
    check_writable(path.absolute().parent, flag)
    if os.path.lexists(unfinished := _staging_path(path.absolute())):
        raise _staging_exists_error(unfinished)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Makes a directory appear with all of its files at once; a failure leaves nothing.

    Args:
      path: a path at which there is nothing or an empty directory, as `refuse_taken` checks.

    Yields:
      A temporary directory beside it to write the files into.

    Raises:
      FmnistError: it cannot be created or moved.
    """
    path = path.absolute()
    unfinished = _staging_path(path)
    # A signal unwinds the whole block.
    with directory_for_files(unfinished.parent), convert_write_errors(path):
        belongs_to_another = False
        try:
            try:
                unfinished.mkdir()
            except FileExistsError as error:
                belongs_to_another = True
                raise _staging_exists_error(unfinished) from error
            yield unfinished
            unfinished.replace(path)
        finally:
            if not belongs_to_another:
                shutil.rmtree(unfinished, ignore_errors=True)


def _staging_path(path: Path) -> Path:
    return path.with_name(f"{path.name}{UNFINISHED}")


def _staging_exists_error(unfinished: Path) -> FmnistError:
    return FmnistError(
        f"{unfinished} exists, made by a process that is still writing it or was killed: wait for it, or delete it"
    )


def _why_irreplaceable(path: Path) -> str | None:
    """Why a directory cannot be replaced by another one, as part of a sentence; None if it can."""
    if path.is_symlink():
        return "a symbolic link"
    if path.resolve().is_mount():  # resolved, because `.` itself always is one
        return "a mount point"
    return "the current directory" if path.resolve() == Path.cwd() else None
