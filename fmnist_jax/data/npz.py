"""A user's own data set in one `.npz` file, as `numpy.savez` writes it."""

import zipfile
from pathlib import Path

import numpy as np

from fmnist_jax.data.idx import FILES
from fmnist_jax.errors import DataError, in_one_line
from fmnist_jax.system.npz import NPZ_ERRORS
from fmnist_jax.system.storage import error_reason, error_remedy

ARRAYS = tuple(FILES)
"""What the file must hold: `train_images`, `train_labels`, `test_images` and `test_labels`; it may also hold
`class_names`."""


def load(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a data set; anything that needs pickle is refused, because unpickling can run any code.

    Returns:
      Arrays by the names in `ARRAYS`, and `class_names` if present, of any shape and type.

    Raises:
      DataError: the file is missing or not an `.npz` file, or an array is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise DataError(f"{path} is not an .npz file: write one with numpy.savez(file, {_arguments(ARRAYS)})")
        with np.load(path, allow_pickle=False) as arrays:
            if missing := [name for name in ARRAYS if name not in arrays]:
                raise DataError(
                    f"{path} has no {', '.join(missing)}: write all arrays with numpy.savez(file, "
                    f"{_arguments(missing)}, ...)"
                )
            loaded = {name: arrays[name] for name in (*ARRAYS, "class_names") if name in arrays}
            if others := [name for name, value in loaded.items() if not isinstance(value, np.ndarray)]:
                raise ValueError(f"{others[0]} is not a NumPy array")
            return loaded
    except FileNotFoundError as error:
        raise DataError(f"--data.file is {path}, which does not exist: give the path of the .npz file") from error
    except OSError as error:
        raise DataError(
            f"--data.file is {path}, which cannot be read ({error_reason(error)}): {error_remedy(error)}"
        ) from error
    except MemoryError as error:
        raise DataError(
            f"{path} does not fit in memory ({in_one_line(error)}): give a smaller file, or write this one again"
        ) from error
    except NPZ_ERRORS as error:
        raise DataError(
            f"{path} cannot be read ({in_one_line(error)}): write it with numpy.savez and numbers for images and labels"
        ) from error


def _arguments(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{name}=..." for name in names)
