"""The report of a run, from the files that the run has written."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fmnist_jax.config import paths
from fmnist_jax.config.schema import Config, DataConfig
from fmnist_jax.data.dataset import Dataset, Splits, digest, load
from fmnist_jax.data.places import DataPaths, with_local_paths
from fmnist_jax.errors import FmnistError
from fmnist_jax.runs import trained
from fmnist_jax.runs.directory import read_json
from fmnist_jax.runs.recorded import PREDICTIONS_FILE, read_predictions
from fmnist_jax.runs.results import Predictions, write_report
from fmnist_jax.runs.resumption import recorded_digest, refuse_other_data
from fmnist_jax.runs.selection import find_checkpoint
from fmnist_jax.system.storage import check_writable


class ReportData(NamedTuple):
    """What a page shows of a run."""

    config: Config
    step: int
    """That of the checkpoint."""
    summary: Mapping[str, Any]
    """As in `summary.json`; empty before the end of the run."""
    test: Dataset
    predicted: Predictions
    """For the test images."""


def run(directory: str | os.PathLike[str], data: DataPaths | None = None, *, splits: Splits | None = None) -> Path:
    """Writes `<directory>/report.html` for the newest checkpoint, and returns its path.

    Args:
      directory: the run's directory.
      data: where the images are, if not where the run found them.
      splits: the images themselves, for a run that was given them in Python.

    Raises:
      FmnistError: there is no run or no checkpoint, the data set is unavailable, or the report cannot be written.
    """
    directory = paths.expand(directory)
    check_writable(directory, "RUN")
    report_data = read(directory, lambda config: load(with_local_paths(config, data)) if splits is None else splits)
    return write_report(
        directory,
        report_data.config,
        report_data.step,
        report_data.test,
        report_data.predicted,
        summary=report_data.summary,
    )


def read(directory: Path, load_splits: Callable[[DataConfig], Splits]) -> ReportData:
    """Reads a run's summary, its test images, and the predictions of its newest checkpoint for them.

    Args:
      directory: the run's directory.
      load_splits: loads the images that the run's configuration names.

    Raises:
      FmnistError: there is no run or no checkpoint, or the data set is unavailable.
    """
    config, _ = find_checkpoint(directory)
    splits = load_splits(config.data)
    config, step = find_checkpoint(directory)  # again, as a run in progress may have gone on
    # The files besides the checkpoints are written at the end.
    predicted = None
    if step == config.total_steps:
        recorded = recorded_digest(directory / "checkpoints", step)
        refuse_other_data(directory / "checkpoints", step, recorded, digest(splits))
        predicted = _saved_predictions(directory, splits.test)
    if predicted is None:
        model = trained.load_trained(directory)
        step = model.step
        refuse_other_data(directory / "checkpoints", step, model.dataset_digest, digest(splits))
        predicted = _compute_predictions(model, splits.test)
    summary = (read_json(directory / "summary.json") or {}) if step == config.total_steps else {}
    return ReportData(config, step, summary, splits.test, predicted)


def _saved_predictions(directory: Path, test: Dataset) -> Predictions | None:
    """The predictions for the test images that the run wrote at its end, if there are any."""
    saved = read_predictions(directory)
    if saved is None:
        return None
    if not np.array_equal(saved["labels"], test.labels):
        raise FmnistError(
            f"{directory / PREDICTIONS_FILE} belongs to different images from those found: delete it to "
            "predict them again"
        )
    return Predictions(saved["logits"], saved.get("member_logits"))


def _compute_predictions(model: trained.Trained, test: Dataset) -> Predictions:
    logits = model.predict(test.images)
    if model.members == 1:
        return Predictions(logits, None)
    return Predictions(logits, np.stack([model.member(n).predict(test.images) for n in range(model.members)]))
