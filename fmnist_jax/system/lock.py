"""One process to a directory."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fmnist_jax.errors import RunInUseError


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Holds a run directory against other processes.

    The operating system lets go of the lock when its holder ends, however it ends, so none is ever stale.

    Raises:
      RunInUseError: another process holds it; the message names that process.
    """
    with (directory / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise RunInUseError(
                f"{directory} is in use by {holder}: wait for it, stop it, or choose another --run.dir"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextmanager
def in_turn(directory: Path) -> Iterator[None]:
    """Holds a directory against other processes that call this, after waiting for those that came before."""
    with (directory / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
