"""Evaluation of a stopped run: the files it writes, and what it rejects."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fmnist_jax import DataConfig, load
from fmnist_jax.commands import cli, evaluation
from fmnist_jax.errors import CheckpointError, FmnistError
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.functional.state import TrainState
from fmnist_jax.runs import checkpoint
from tests.ended import loading_meanwhile, take_all_steps

_FIGURES = {
    *("confusion_matrix", "reliability", "samples", "predictions", "misclassified"),
    *("filters", "activations", "embedding", "saliency"),
}


@pytest.fixture(scope="module")
def evaluated(saved_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, evaluation.Evaluation]:
    run = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(saved_run, run)
    return run / "evaluation" / "test", evaluation.run(run, "latest", "test", "none")


def test_all_files_are_written_and_each_figure_can_be_opened(evaluated: tuple[Path, evaluation.Evaluation]) -> None:
    path, _ = evaluated
    assert {item.name for item in path.iterdir()} == {
        *("metrics.json", "predictions.csv"),
        *(f"{name}.png" for name in _FIGURES),
    }
    for name in _FIGURES:
        with Image.open(path / f"{name}.png") as image:
            assert min(image.size) > 100


def test_metrics_match_the_predictions_csv_read_by_pandas(
    evaluated: tuple[Path, evaluation.Evaluation],
) -> None:
    path, result = evaluated
    table = pd.read_csv(path / "predictions.csv")
    assert list(table.columns) == ["index", "label", "prediction", *CLASS_NAMES]
    assert table["index"].tolist() == list(range(70))
    assert table["label"].tolist() == result.dataset.labels.tolist()
    probabilities = table[list(CLASS_NAMES)].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    assert np.array_equal(probabilities.argmax(1), table["prediction"])
    scores = json.loads((path / "metrics.json").read_text())
    assert scores["accuracy"] == pytest.approx((table["label"] == table["prediction"]).mean())
    label_probabilities = probabilities[np.arange(70), table["label"]]
    assert scores["loss"] == pytest.approx(-np.log(label_probabilities).mean(), abs=1e-5)
    assert (scores["checkpoint"], scores["split"], scores["tta"]) == (5, "test", "none")


def test_predictions_csv_has_one_row_per_image_and_no_blank_lines(
    evaluated: tuple[Path, evaluation.Evaluation],
) -> None:
    path, _ = evaluated
    with (path / "predictions.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert {len(row) for row in rows} == {13}
    assert len(rows) == 71


def test_another_split_and_mirror_tta_can_be_evaluated_in_the_same_run_directory(
    saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluated: tuple[Path, evaluation.Evaluation]
) -> None:
    monkeypatch.setattr(evaluation, "_figures", lambda _: iter(()))  # already drawn by the fixture
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    validation = evaluation.run(run, "best", "validation", "none")
    assert len(validation.dataset) == 40
    mirrored = evaluation.run(run, "5", "test", "mirror")
    assert np.abs(mirrored.assessment.probabilities - evaluated[1].assessment.probabilities).max() > 1e-4
    assert json.loads((run / "evaluation" / "test" / "metrics.json").read_text())["tta"] == "mirror"
    assert json.loads((run / "evaluation" / "validation" / "metrics.json").read_text())["examples"] == 40


@pytest.mark.parametrize("flip", ["none", "alternating"])
def test_mirror_tta_warns_if_the_run_was_trained_without_flips(
    flip: str, saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluation, "_figures", lambda _: iter(()))
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    config = json.loads((run / "config.json").read_text())
    config["augment"]["flip"] = flip
    (run / "config.json").write_text(json.dumps(config))
    evaluation.run(run, "latest", "test", "mirror")
    assert ("--tta mirror may cost accuracy" in capsys.readouterr().err) == (flip == "none")


def test_files_are_written_even_if_printing_the_tables_breaks_the_pipe(
    saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_figures", lambda _: iter(()))

    def break_pipe(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(cli, "print_rich", break_pipe)
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    with pytest.raises(BrokenPipeError):
        evaluation.run(run, "latest", "test", "none")
    assert (run / "evaluation" / "test" / "metrics.json").is_file()


def test_changed_data_and_unknown_or_empty_splits_are_rejected(saved_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    config = json.loads((run / "config.json").read_text())
    config["data"] |= {"validation_size": 0}
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="restore the original data set"):
        evaluation.run(run, "latest", "validation", "none")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "refuse_other_data", lambda *_: None)
        with pytest.raises(FmnistError, match=r"--split is 'count': choose one of train, validation, test"):
            evaluation.run(run, "latest", "count", "none")
        with pytest.raises(FmnistError, match=r"--split is validation, but .*: choose test or train"):
            evaluation.run(run, "latest", "validation", "none")
    assert not (run / "evaluation").exists()


def test_checkpoint_that_a_run_deletes_once_it_is_read_is_evaluated(
    saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(saved_run, run := tmp_path / "run")
    restore = checkpoint.restore

    def restore_then_delete(directory: Path, step: int, like: TrainState, **options: Any) -> TrainState:
        state = restore(directory, step, like, **options)
        take_all_steps(run)
        shutil.rmtree(directory / str(step))
        return state

    monkeypatch.setattr(evaluation, "_figures", lambda _: iter(()))
    monkeypatch.setattr(checkpoint, "restore", restore_then_delete)
    assert evaluation.run(run, "latest", "test", "none").model.step == 5


def test_run_that_goes_on_while_its_images_are_loaded_is_evaluated_at_the_step_of_its_weights(
    saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    monkeypatch.setattr(evaluation, "_figures", lambda _: iter(()))
    monkeypatch.setattr(evaluation, "load", loading_meanwhile(run))
    assert evaluation.run(run).model.step == 5


def test_train_split_equals_the_images_that_the_run_trained_on(saved_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_figures", lambda _: iter(()))
        result = evaluation.run(run, "latest", "train", "none")
    splits = load(DataConfig(name="synthetic", synthetic_train_size=200, synthetic_test_size=70, validation_size=40))
    assert np.array_equal(result.dataset.images, splits.train.images)


def test_file_in_place_of_the_output_directory_is_rejected(saved_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    (run / "evaluation").write_text("in the way")
    with pytest.raises(FmnistError, match=r"evaluation is a file, not a directory"):
        evaluation.run(run, "latest", "test", "none")
