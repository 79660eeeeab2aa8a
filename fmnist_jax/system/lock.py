"""Locks that allow one process at a time in a directory."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import portalocker
from portalocker import LockFlags

from fmnist_jax.errors import FmnistError, RunInUseError, in_one_line
from fmnist_jax.system import output
from fmnist_jax.system.storage import error_reason, error_remedy


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Locks a run directory against other processes, or warns that its file system has no locks.

    The operating system releases the lock when its holder ends, however it ends, so none is ever stale.

    Raises:
      RunInUseError: another process holds it; the message names that process.
      FmnistError: the lock file cannot be opened.
    """
    with _open_lock_file(directory / ".lock", "--run.dir") as file:
        try:
            portalocker.lock(file, LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING)
        except portalocker.AlreadyLocked as error:
            raise RunInUseError(
                f"{directory} is in use by {_holder(file)}: wait for it, stop it, or choose another --run.dir"
            ) from error
        except portalocker.LockException as error:
            _warn_unlocked(directory, error)
        if file.writable():
            _write_holder(file)
        yield


@contextmanager
def wait_exclusive(directory: Path) -> Iterator[None]:
    """Locks a data directory against other processes that call this, after waiting for those that came before.

    Raises:
      FmnistError: the lock file cannot be opened.
    """
    with _open_lock_file(directory / ".lock", "--data.dir") as file:
        try:
            try:
                portalocker.lock(file, LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING)
            except portalocker.AlreadyLocked:
                output.say(f"waiting for another process that prepares data in {directory}")
                portalocker.lock(file, LockFlags.EXCLUSIVE)
        except portalocker.LockException as error:
            _warn_unlocked(directory, error)
        yield


def _open_lock_file(path: Path, flag: str) -> IO[str]:
    """Opens a lock file, which another user may have made: one that can only be read can be locked, too."""
    try:
        try:
            return path.open("a+")
        except PermissionError:
            return path.open("r")
    except OSError as error:
        raise FmnistError(
            f"{path} cannot be opened ({error_reason(error)}): {error_remedy(error)} or choose another {flag}"
        ) from error


def _warn_unlocked(directory: Path, error: portalocker.LockException) -> None:
    """Warns that nothing guards the directory; files are written atomically, so a single process is as safe as ever."""
    output.warn(
        f"warning: the file system of {directory} has no locks ({in_one_line(error.__cause__ or error)}): "
        f"make sure that no other process writes there"
    )


def _holder(file: IO[str]) -> str:
    with suppress(OSError):  # where a lock keeps others from reading
        file.seek(0)
        return file.read().strip() or "another process"
    return "another process"


def _write_holder(file: IO[str]) -> None:
    """Writes into the lock file who holds it, unbuffered; on a full disk it stays unsigned."""
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
