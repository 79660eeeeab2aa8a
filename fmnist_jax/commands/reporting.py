"""The report of a run, out of the files that the run has left."""

import os
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from fmnist_jax.config import paths
from fmnist_jax.data.dataset import Dataset, Splits, digest, load
from fmnist_jax.data.places import Places, located
from fmnist_jax.errors import FmnistError
from fmnist_jax.runs import trained
from fmnist_jax.runs.directory import read_json
from fmnist_jax.runs.results import write_report
from fmnist_jax.runs.resumption import refuse_other_data
from fmnist_jax.system.storage import check_writable


def run(directory: str | os.PathLike[str], data: Places | None = None, *, splits: Splits | None = None) -> Path:
    """Writes `<directory>/report.html` of the newest checkpoint, and returns its path.

    Args:
      directory: of the run.
      data: where the images lie, if not where the run found them.
      splits: the images themselves, of a run that was given them in Python.

    Raises:
      FmnistError: there is no run or no checkpoint, the data set is not at hand, or nothing can be written.
    """
    directory = paths.expanded(directory)
    check_writable(directory, "RUN")
    model = trained.load_trained(directory)
    splits = load(located(model.config.data, data)) if splits is None else splits
    refuse_other_data(directory / "checkpoints", model.step, digest(splits))
    summary = read_json(directory / "summary.json") or {}
    logits = _logits(directory, model, splits.test)
    return write_report(directory, model.config, model.step, splits.test, logits, summary=summary)


def _logits(directory: Path, model: trained.Trained, test: Dataset) -> np.ndarray:
    """The test logits that the run has written at its end, or else those of the checkpoint."""
    saved = directory / "predictions.npz"
    if not (directory / "summary.json").exists() or not saved.exists():
        return model.predict(test.images)
    try:
        with saved.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            logits, labels = arrays["logits"], arrays["labels"]
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise FmnistError(
            f"{saved} is damaged ({error}): restore it, or delete it to have it predicted anew"
        ) from error
    if not np.array_equal(labels, test.labels):
        raise FmnistError(f"{saved} is of other images than those at hand: delete it to have them predicted anew")
    return np.asarray(logits)
