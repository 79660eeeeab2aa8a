"""A trial, before a run starts, of whether checkpoints can be kept where it is to write them."""

import shutil
import uuid
from pathlib import Path

import numpy as np

from fmnist_jax.errors import CheckpointError, in_one_line
from fmnist_jax.runs import checkpoint
from fmnist_jax.system.signals import unwind_on_signal
from fmnist_jax.system.storage import check_writable, remove_stale

_PREFIX = ".probe-"
_DIGITS = 8  # hexadecimal ones, so that concurrent processes do not get in each other's way


def refuse_unusable(directory: Path) -> None:
    """Checks that checkpoints can be saved in a directory: writes a small one there, reads it back, and removes it.

    Raises:
      CheckpointError: they cannot, because of the file system or of characters in the path.
    """
    check_writable(directory, "--run.dir", CheckpointError)
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    remove_stale(existing, _PREFIX + "[0-9a-f]" * _DIGITS)
    probe = existing / f"{_PREFIX}{uuid.uuid4().hex[:_DIGITS]}"
    with unwind_on_signal():
        try:
            checkpoint.save(probe / directory.relative_to(existing), {"values": np.arange(64)}, step=0)
        except (CheckpointError, OSError) as error:
            raise CheckpointError(
                f"a checkpoint written into {ascii(str(directory.parent))[1:-1]} cannot be read back: choose another "
                f"--run.dir, on a local disk and named with plain letters, digits, - and _ ({in_one_line(error)})"
            ) from error
        finally:
            shutil.rmtree(probe, ignore_errors=True)
