"""Reports of stopped and of finished runs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fmnist_jax.commands import reporting
from fmnist_jax.config.record import from_dict
from fmnist_jax.data.dataset import load
from fmnist_jax.errors import FmnistError
from fmnist_jax.runs.trained import load_trained
from tests.ended import loading_meanwhile, take_all_steps


@pytest.fixture
def run_dir(saved_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved_run, tmp_path / "run")
    return tmp_path / "run"


def _finish(run_dir: Path, labels: np.ndarray, logits: np.ndarray) -> None:
    """Writes the end-of-run files that the report reads."""
    take_all_steps(run_dir)
    np.savez(run_dir / "predictions.npz", logits=logits, labels=labels)
    summary = {"parameters": 1234, "epochs": 2, "train_seconds": 9.0, "images_per_second": 55.0}
    (run_dir / "summary.json").write_text(
        json.dumps({**summary, "test_accuracy_mirrored": None, "state_digest": "abc"})
    )


def test_stopped_run_is_reported_as_not_finished(run_dir: Path) -> None:
    path = reporting.run(run_dir)
    assert path == run_dir / "report.html"
    assert "Not finished: step 5 of 10." in path.read_text()


def test_finished_run_is_reported_with_its_recorded_scores(run_dir: Path) -> None:
    labels = load(from_dict(json.loads((run_dir / "config.json").read_text())).data).test.labels
    _finish(run_dir, labels, 9 * np.eye(10, dtype=np.float32)[labels])
    page = reporting.run(run_dir).read_text()
    assert "<strong>100.00%</strong>" in page
    assert "1,234" in page
    assert "None: every image was recognised." in page


def test_function_that_composed_the_run_is_named(run_dir: Path) -> None:
    assert "Composed by" not in reporting.run(run_dir).read_text()
    (run_dir / "recipe.json").write_text(json.dumps({"make_recipe": "my_recipe", "own_network": False}))
    assert "Composed by <code>my_recipe</code> in place of" in reporting.run(run_dir).read_text()


def test_recorded_scores_are_not_reported_for_an_earlier_checkpoint(run_dir: Path) -> None:
    labels = load(from_dict(json.loads((run_dir / "config.json").read_text())).data).test.labels
    _finish(run_dir, labels, 9 * np.eye(10, dtype=np.float32)[labels])
    shutil.rmtree(run_dir / "checkpoints" / "10")
    page = reporting.run(run_dir).read_text()
    assert "Not finished: step 5 of 10." in page
    assert "<strong>100.00%</strong>" not in page
    assert "1,234" not in page


def test_run_that_goes_on_while_its_images_are_loaded_is_reported_with_the_step_of_its_predictions(
    run_dir: Path,
) -> None:
    report_data = reporting.read(run_dir, loading_meanwhile(run_dir))
    assert report_data.step == 10
    np.testing.assert_array_equal(report_data.predicted.logits, load_trained(run_dir).predict(report_data.test.images))


def test_run_that_goes_on_just_before_it_is_loaded_is_reported_with_the_step_of_its_predictions(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = load_trained(run_dir)._replace(step=7)
    monkeypatch.setattr("fmnist_jax.commands.reporting.trained.load_trained", lambda _: newer)
    assert reporting.read(run_dir, load).step == 7


def test_mismatched_or_damaged_predictions_are_rejected(run_dir: Path) -> None:
    _finish(run_dir, np.zeros(70, np.int32), np.zeros((70, 10), np.float32))
    with pytest.raises(FmnistError, match=r"predictions\.npz belongs to different images .*: delete it"):
        reporting.run(run_dir)
    intact = (run_dir / "predictions.npz").read_bytes()
    for damaged in (b"", b"PK", intact[:100], intact[:-30]):
        (run_dir / "predictions.npz").write_bytes(damaged)
        with pytest.raises(FmnistError, match=r"predictions\.npz is damaged .*: restore it, or delete it"):
            reporting.run(run_dir)
    assert not (run_dir / "report.html").exists()
    (run_dir / "predictions.npz").unlink()
    assert reporting.run(run_dir).exists()


def test_directory_without_a_run_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(FmnistError, match=r"has no config\.json"):
        reporting.run(tmp_path)
    assert list(tmp_path.iterdir()) == []
