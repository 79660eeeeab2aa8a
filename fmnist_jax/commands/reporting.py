"""The report of a run, out of the files that the run has left."""

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
    """What a page tells of a run."""

    config: Config
    step: int
    """Of the weights."""
    summary: Mapping[str, Any]
    """As in `summary.json`; empty before the end of the run."""
    test: Dataset
    predicted: Predictions
    """Of the test images."""


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
    found = read(directory, lambda config: load(located(config, data)) if splits is None else splits)
    return write_report(directory, found.config, found.step, found.test, found.predicted, summary=found.summary)


def read(directory: Path, splits_of: Callable[[DataConfig], Splits]) -> Reported:
    """Reads the newest checkpoint of a run, what the run came to, and the images that it was trained on.

    Args:
      directory: of the run.
      splits_of: loads the images, by what the run has recorded of them.

    Raises:
      FmnistError: there is no run or no checkpoint, or the data set is not at hand.
    """
    config, step = trained.find(directory)
    splits = splits_of(config.data)
    refuse_other_data(directory / "checkpoints", step, digest(splits))
    ended = step == config.total_steps  # what lies there besides is of the end
    summary = (read_json(directory / "summary.json") or {}) if ended else {}
    predicted = _recorded(directory, splits.test) if ended else None
    if predicted is None:
        predicted = _predicted(trained.load_trained(directory), splits.test)
    return Reported(config, step, summary, splits.test, predicted)


def _recorded(directory: Path, test: Dataset) -> Predictions | None:
    """What the run has written of the test images at its end, if it is there."""
    saved = read_predictions(directory)
    if saved is None:
        return None
    if not np.array_equal(saved["labels"], test.labels):
        raise FmnistError(
            f"{directory / FILE} is of other images than those at hand: delete it to have them predicted anew"
        )
    return Predictions(saved["logits"], saved.get("member_logits"))


def _predicted(model: trained.Trained, test: Dataset) -> Predictions:
    logits = model.predict(test.images)
    if model.members == 1:
        return Predictions(logits, None)
    return Predictions(logits, np.stack([model.member(n).predict(test.images) for n in range(model.members)]))
