"""The report of a run, from the files that the run has written."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fmnist_jax.config import paths
from fmnist_jax.config.schema import Config, DataConfig
from fmnist_jax.data.dataset import Dataset, Splits, digest, load
from fmnist_jax.data.places import Places, located
from fmnist_jax.errors import FmnistError
from fmnist_jax.runs import trained
from fmnist_jax.runs.directory import read_json
from fmnist_jax.runs.recorded import FILE, read_predictions
from fmnist_jax.runs.results import Predictions, write_report
from fmnist_jax.runs.resumption import refuse_other_data
from fmnist_jax.system.storage import check_writable


class Reported(NamedTuple):
    """What a page shows of a run."""

    config: Config
    step: int
    """That of the checkpoint."""
    summary: Mapping[str, Any]
    """As in `summary.json`; empty before the end of the run."""
    test: Dataset
    predicted: Predictions
    """For the test images."""


def run(directory: str | os.PathLike[str], data: Places | None = None, *, splits: Splits | None = None) -> Path:
    """Writes `<directory>/report.html` for the newest checkpoint, and returns its path.

    Args:
      directory: the run's directory.
      data: where the images are, if not where the run found them.
      splits: the images themselves, for a run that was given them in Python.

    Raises:
      FmnistError: there is no run or no checkpoint, the data set is unavailable, or the report cannot be written.
    """
    directory = paths.expanded(directory)
    check_writable(directory, "RUN")
    found = read(directory, lambda config: load(located(config, data)) if splits is None else splits)
    return write_report(directory, found.config, found.step, found.test, found.predicted, summary=found.summary)


def read(directory: Path, splits_of: Callable[[DataConfig], Splits]) -> Reported:
    """Reads a run's summary, its test images, and the predictions of its newest checkpoint for them.

    Args:
      directory: the run's directory.
      splits_of: loads the images that the run's configuration names.

    Raises:
      FmnistError: there is no run or no checkpoint, or the data set is unavailable.
    """
    config, step = trained.find(directory)
    splits = splits_of(config.data)
    refuse_other_data(directory / "checkpoints", step, digest(splits))
    ended = step == config.total_steps  # the files besides the checkpoints are written at the end
    summary = (read_json(directory / "summary.json") or {}) if ended else {}
    predicted = _recorded(directory, splits.test) if ended else None
    if predicted is None:
        predicted = _predicted(trained.load_trained(directory), splits.test)
    return Reported(config, step, summary, splits.test, predicted)


def _recorded(directory: Path, test: Dataset) -> Predictions | None:
    """The predictions for the test images that the run wrote at its end, if there are any."""
    saved = read_predictions(directory)
    if saved is None:
        return None
    if not np.array_equal(saved["labels"], test.labels):
        raise FmnistError(
            f"{directory / FILE} belongs to different images from those found: delete it to predict them again"
        )
    return Predictions(saved["logits"], saved.get("member_logits"))


def _predicted(model: trained.Trained, test: Dataset) -> Predictions:
    logits = model.predict(test.images)
    if model.members == 1:
        return Predictions(logits, None)
    return Predictions(logits, np.stack([model.member(n).predict(test.images) for n in range(model.members)]))
