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
from fmnist_jax.system.storage import reason, remedy


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Locks a run directory against other processes, or warns that its file system has no locks.

    The operating system releases the lock when its holder ends, however it ends, so none is ever stale.

    Raises:
      RunInUseError: another process holds it; the message names that process.
      FmnistError: the lock file cannot be opened.
    """
    with _opened(directory / ".lock", "--run.dir") as file:
        try:
            portalocker.lock(file, LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING)
        except portalocker.AlreadyLocked as error:
            raise RunInUseError(
                f"{directory} is in use by {_holder(file)}: wait for it, stop it, or choose another --run.dir"
            ) from error
        except portalocker.LockException as error:
            _warn_unlocked(directory, error)
        if file.writable():
            _sign(file)
        yield


@contextmanager
def in_turn(directory: Path) -> Iterator[None]:
    """Locks a data directory against other processes that call this, after waiting for those that came before.

    Raises:
      FmnistError: the lock file cannot be opened.
    """
    with _opened(directory / ".lock", "--data.dir") as file:
        try:
            portalocker.lock(file, LockFlags.EXCLUSIVE)
        except portalocker.LockException as error:
            _warn_unlocked(directory, error)
        yield


def _opened(path: Path, flag: str) -> IO[str]:
    """Opens a lock file, which another user may have made: one that can only be read can be locked, too."""
    for mode in ("a+", "r"):
        try:
            return path.open(mode)
        except PermissionError as error:
            problem: OSError = error
        except OSError as error:
            problem = error
            break
    raise FmnistError(
        f"{path} cannot be opened ({reason(problem)}): {remedy(problem)} or choose another {flag}"
    ) from problem


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


def _sign(file: IO[str]) -> None:
    """Writes into the lock file who holds it, unbuffered; on a full disk it stays unsigned."""
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
