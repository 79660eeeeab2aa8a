"""The report of a run that has stopped, and of one that has ended."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fmnist_jax.commands import reporting
from fmnist_jax.config.record import from_dict
from fmnist_jax.data.dataset import load
from fmnist_jax.errors import FmnistError
from tests.ended import take_all_steps


@pytest.fixture
def run(saved_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved_run, tmp_path / "run")
    return tmp_path / "run"


def _end(run: Path, labels: np.ndarray, logits: np.ndarray) -> None:
    """Writes the files of the end of a run that the report reads."""
    take_all_steps(run)
    np.savez(run / "predictions.npz", logits=logits, labels=labels)
    summary = {"parameters": 1234, "epochs": 2, "train_seconds": 9.0, "images_per_second": 55.0}
    (run / "summary.json").write_text(json.dumps({**summary, "test_accuracy_mirrored": None, "state_digest": "abc"}))


def test_a_run_that_has_stopped_is_reported_as_not_finished(run: Path) -> None:
    path = reporting.run(run)
    assert path == run / "report.html"
    assert "Not finished: step 5 of 10." in path.read_text()


def test_a_run_that_has_ended_is_reported_as_it_was_scored(run: Path) -> None:
    labels = load(from_dict(json.loads((run / "config.json").read_text())).data).test.labels
    _end(run, labels, 9 * np.eye(10, dtype=np.float32)[labels])
    page = reporting.run(run).read_text()
    assert "<strong>100.00%</strong>" in page
    assert "1,234" in page
    assert "None: every image was recognised." in page


def test_what_was_recorded_at_the_end_is_not_told_of_a_checkpoint_of_before(run: Path) -> None:
    labels = load(from_dict(json.loads((run / "config.json").read_text())).data).test.labels
    _end(run, labels, 9 * np.eye(10, dtype=np.float32)[labels])
    shutil.rmtree(run / "checkpoints" / "10")
    page = reporting.run(run).read_text()
    assert "Not finished: step 5 of 10." in page
    assert "<strong>100.00%</strong>" not in page
    assert "1,234" not in page


def test_predictions_of_other_images_or_damaged_ones_are_refused(run: Path) -> None:
    _end(run, np.zeros(70, np.int32), np.zeros((70, 10), np.float32))
    with pytest.raises(FmnistError, match=r"predictions\.npz belongs to different images .*: delete it"):
        reporting.run(run)
    whole = (run / "predictions.npz").read_bytes()
    for damaged in (b"", b"PK", whole[:100], whole[:-30]):
        (run / "predictions.npz").write_bytes(damaged)
        with pytest.raises(FmnistError, match=r"predictions\.npz is damaged .*: restore it, or delete it"):
            reporting.run(run)
    assert not (run / "report.html").exists()
    (run / "predictions.npz").unlink()
    assert reporting.run(run).exists()


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FmnistError, match=r"has no config\.json"):
        reporting.run(tmp_path)
    assert list(tmp_path.iterdir()) == []
