"""Refusing a place to write to before any work is done for it."""

import os
from pathlib import Path

from fmnist_jax.errors import FmnistError


def check_writable(path: Path, flag: str, error: type[FmnistError] = FmnistError) -> None:
    """Checks, writing nothing, that a directory is there or can be made.

    Raises:
      FmnistError: as the given type; it cannot, and `flag` would name another.
    """
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if not existing.is_dir():
        raise error(f"{existing} is a file, not a directory: choose another {flag}")
    if not os.access(existing, os.W_OK):
        raise error(f"{existing} cannot be written: change its permissions or choose another {flag}")
