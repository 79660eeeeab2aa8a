"""The report of a run, out of the files that the run has left."""

import os
from pathlib import Path

import numpy as np

from fmnist_jax.config import paths
from fmnist_jax.data.dataset import Dataset, Splits, digest, load
from fmnist_jax.data.places import Places, located
from fmnist_jax.errors import FmnistError
from fmnist_jax.runs import trained
from fmnist_jax.runs.directory import read_json
from fmnist_jax.runs.recorded import FILE, read_predictions
from fmnist_jax.runs.results import Predictions, write_report
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
    predicted = _predicted(directory, model, splits.test)
    return write_report(directory, model.config, model.step, splits.test, predicted, summary=summary)


def _predicted(directory: Path, model: trained.Trained, test: Dataset) -> Predictions:
    """What the run has written of the test images at its end, or else what the checkpoint says of them."""
    saved = read_predictions(directory)
    if saved is None:
        members = [model.member(number).predict(test.images) for number in range(model.members)]
        return Predictions(model.predict(test.images), np.stack(members) if len(members) > 1 else None)
    if not np.array_equal(saved["labels"], test.labels):
        raise FmnistError(
            f"{directory / FILE} is of other images than those at hand: delete it to have them predicted anew"
        )
    return Predictions(saved["logits"], saved.get("member_logits"))
