"""The report of a run, out of the files that the run has left."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from fmnist_jax import data, runlog, trained
from fmnist_jax.errors import FmnistError
from fmnist_jax.report_page import Contents, render
from fmnist_jax.resumption import refuse_other_data
from fmnist_jax.storage import check_writable, write_text


def run(directory: Path) -> Path:
    """Writes `<directory>/report.html` of the newest checkpoint, and returns its path.

    Raises:
      FmnistError: there is no run or no checkpoint, the data set is not at hand, or nothing can be written.
    """
    check_writable(directory, "RUN")
    model = trained.load(directory)
    splits = data.load(model.config.data)
    refuse_other_data(directory / "checkpoints", model.step, data.digest(splits))
    contents = Contents(
        name=directory.absolute().name,
        config=model.config,
        step=model.step,
        records=[record for record in runlog.read_records(directory) if record["step"] <= model.step],
        environment=runlog.read_json(directory / "environment.json") or {},
        summary=runlog.read_json(directory / "summary.json") or {},
        test=splits.test,
        logits=_logits(directory, model, splits.test),
    )
    return write(directory, contents)


def _logits(directory: Path, model: trained.Trained, test: data.Dataset) -> np.ndarray:
    """The test logits that the run has written at its end, or else those of the checkpoint."""
    saved = directory / "predictions.npz"
    if not (directory / "summary.json").exists() or not saved.exists():
        return trained.predict(model, test.images)
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


def write(directory: Path, contents: Contents) -> Path:
    """Renders `<directory>/report.html` and returns its path."""
    path = directory / "report.html"
    write_text(path, render(contents))
    return path
