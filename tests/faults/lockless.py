"""Runs the training command on a file system that has no locks: `python -m tests.faults.lockless [arguments]`."""

import errno
import os
from typing import Any

import portalocker

from fmnist_jax import train
from fmnist_jax.commands import cli


def _refuse(*_: Any) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


if __name__ == "__main__":
    portalocker.portalocker.LOCKER = _refuse
    cli.run_command(train.main)
