"""The predictions for the test images that a run has written at its end."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fmnist_jax.errors import FmnistError
from fmnist_jax.system.npz import NPZ_ERRORS
from fmnist_jax.system.storage import error_reason, error_remedy

PREDICTIONS_FILE = "predictions.npz"


def read_predictions(directory: Path) -> Mapping[str, np.ndarray] | None:
    """Reads the arrays that `results.save_predictions` has written, or returns None if the run has not ended.

    Args:
      directory: the run directory.

    Returns:
      `logits` f32[N, C], `labels` i32[N] and, where the run has them, `mirrored_logits` f32[N, C] and `member_logits`
      f32[M, N, C].

    Raises:
      FmnistError: the file is damaged or cannot be read.
    """
    path = directory / PREDICTIONS_FILE
    if not (directory / "summary.json").exists() or not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            arrays_by_name = {name: arrays[name] for name in arrays.files}
    except PermissionError as error:
        raise FmnistError(f"{path} cannot be read ({error_reason(error)}): {error_remedy(error)}") from error
    except (OSError, *NPZ_ERRORS) as error:
        raise _damaged(path, error) from error
    if missing := {"logits", "labels"} - arrays_by_name.keys():
        raise _damaged(path, f"it has no {', '.join(sorted(missing))}")
    if others := [name for name, value in arrays_by_name.items() if not isinstance(value, np.ndarray)]:
        raise _damaged(path, f"{others[0]} is not a NumPy array")
    return arrays_by_name


def _damaged(path: Path, problem: object) -> FmnistError:
    return FmnistError(f"{path} is damaged ({problem}): restore it, or delete it to predict again")
