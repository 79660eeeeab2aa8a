"""The decoded copy of Fashion-MNIST next to TFDS's files: memory-mapped arrays, verified by their digests."""

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from fmnist_jax.data import idx, places
from fmnist_jax.errors import DataError
from fmnist_jax.system import output
from fmnist_jax.system.signals import unwind_on_signal
from fmnist_jax.system.storage import UNFINISHED, check_writable, error_reason, error_remedy, remove_stale

# The smallest of the four files; other data sets have files of the same names.
_LABELS, _LABELS_MD5 = f"{idx.FILES['test_labels']}.gz", "bb300cfdad3c16e7a12a480ee83cd310"


def load(data_dir: Path, raw_dir: Path | None) -> Mapping[str, np.ndarray]:
    """Opens the decoded copy, creating it first if there is no valid one.

    What others have prepared is read in place, even from a read-only directory.

    Args:
      data_dir: TFDS's data directory.
      raw_dir: folder of the original files, if not yet prepared; later, it must not hold those of another data set.

    Returns:
      `train_images` u8[60000, 28, 28, 1], `train_labels` i32[60000], `test_images` u8[10000, 28, 28, 1] and
      `test_labels` i32[10000], in TFDS's order.

    Raises:
      DataError: the data are missing, damaged or unavailable.
    """
    home = places.tfds_dir(data_dir)
    cache = home / "fashion_mnist" / "decoded-3.0.1"
    arrays = _open_cache(cache)
    if arrays is not None:
        refuse_other_files(raw_dir, home)
        return arrays
    if not _is_prepared(home):
        check_writable(cache, "--data.dir", DataError)
    from fmnist_jax.data import fashion_mnist  # imports TFDS, which takes seconds and is needed only here

    decoded = fashion_mnist.load(data_dir, raw_dir)
    try:
        _write_cache(cache, decoded)
    except OSError as error:
        output.warn(
            f"warning: no decoded copy can be kept in {cache} ({error_reason(error)}), so each start takes some "
            f"seconds to decode: {error_remedy(error)}, or choose another --data.dir"
        )
    return _open_cache(cache) or decoded


def refuse_other_files(raw_dir: Path | None, home: Path) -> None:
    """Checks that the original files in `raw_dir`, if there are any, are those that were prepared.

    Raises:
      DataError: they belong to another data set.
    """
    try:
        labels = b"" if raw_dir is None else (raw_dir / _LABELS).read_bytes()
    except OSError:  # once prepared, they need not be there
        return
    if labels and hashlib.md5(labels, usedforsecurity=False).hexdigest() != _LABELS_MD5:
        raise DataError(
            f"{raw_dir} does not hold the files of Fashion-MNIST, which is already prepared in {home}: use --data.name "
            "idx for these, or omit --data.raw-dir"
        )


def _is_prepared(home: Path) -> bool:
    try:
        return (home / places.DESCRIPTION).is_file()
    except OSError:
        return False


def _open_cache(cache: Path) -> dict[str, np.ndarray] | None:
    """Maps the arrays of a decoded copy into memory, or returns None if any file differs from its digest."""
    try:
        known = json.loads((cache / "digests.json").read_text())
        if any(_digest(cache / f"{name}.npy") != known[name] for name in idx.FILES):
            return None
        return {name: np.load(cache / f"{name}.npy", mmap_mode="r") for name in idx.FILES}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_cache(cache: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a decoded copy under another name first, so that a kill half-way leaves no copy that looks valid."""
    remove_stale(cache.parent, f"{cache.name}{UNFINISHED}-*")
    unfinished = cache.with_name(f"{cache.name}{UNFINISHED}-{secrets.token_hex(8)}")
    try:
        with unwind_on_signal(), ExitStack() as cleanup:
            cleanup.callback(shutil.rmtree, unfinished, ignore_errors=True)  # finds nothing once it has been renamed
            unfinished.mkdir(parents=True)
            for name, array in arrays.items():
                np.save(unfinished / f"{name}.npy", array)
            digests = {name: _digest(unfinished / f"{name}.npy") for name in arrays}
            (unfinished / "digests.json").write_text(json.dumps(digests, indent=2) + "\n")
            if _open_cache(cache) is None:  # else another process has finished the same copy, and may have mapped it
                shutil.rmtree(cache, ignore_errors=True)
                unfinished.rename(cache)
    except OSError:
        if _open_cache(cache) is None:  # otherwise another process has just finished the same copy
            raise
