"""IDX files, the format of MNIST and of data sets published like it (yann.lecun.com/exdb/mnist), plain or gzipped."""

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np

from fmnist_jax.errors import DataError
from fmnist_jax.system.storage import error_reason, error_remedy

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
"""Names of the four files of a data set, each of which may end in `.gz`."""

_GZIP = b"\x1f\x8b"


def load(directory: Path) -> dict[str, np.ndarray]:
    """Reads the four files of a data set.

    Returns:
      Arrays of bytes by the keys of `FILES`, in the shapes that the files declare.

    Raises:
      DataError: one is missing, cannot be read, or is not an IDX file of unsigned bytes.
    """
    paths = {name: _find(directory / file) for name, file in FILES.items()}
    return {name: read_idx(path) for name, path in paths.items()}


def _find(path: Path) -> Path:
    """The path of a file, plain or with `.gz` at its end."""
    for candidate in (path, path.with_name(f"{path.name}.gz")):
        if _is_file(candidate):
            return candidate
    raise DataError(f"{path} is missing, with and without .gz: --data.raw-dir must hold {', '.join(FILES.values())}")


def read_idx(path: Path) -> np.ndarray:
    """Reads one IDX file of unsigned bytes, plain or compressed by gzip.

    Raises:
      DataError: the file cannot be read, or is not an IDX file of unsigned bytes.
    """
    try:
        raw = path.read_bytes()
        if raw.startswith(_GZIP):
            raw = gzip.decompress(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a complete gzip file ({error}): download it again") from error
    except MemoryError as error:
        raise DataError(f"{path} does not fit in memory: give a smaller file, or download this one again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error_reason(error)}): {error_remedy(error)}") from error
    dimensions = raw[3] if raw[:3] == b"\x00\x00\x08" and len(raw) >= 4 else 0
    header = 4 + 4 * dimensions
    shape = [int.from_bytes(raw[i : i + 4], "big") for i in range(4, header, 4)]
    if not dimensions or len(raw) != header + prod(shape):
        raise DataError(f"{path} is not an IDX file of unsigned bytes: download it again")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # its folder may not be accessible
        return False
