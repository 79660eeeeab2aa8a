"""An evaluation of a stopped run: files that other programs read, and what is refused."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fmnist_jax import DataConfig, load
from fmnist_jax.commands import cli, evaluation
from fmnist_jax.errors import CheckpointError, FmnistError
from fmnist_jax.functional.labels import CLASS_NAMES

_FIGURES = {
    *("confusion_matrix", "reliability", "samples", "predictions", "misclassified"),
    *("filters", "activations", "embedding", "saliency"),
}


@pytest.fixture(scope="module")
def evaluated(saved_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, evaluation.Evaluation]:
    run = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(saved_run, run)
    return run / "evaluation" / "test", evaluation.run(run, "latest", "test", "none")


def test_every_file_is_there_and_each_figure_can_be_opened(evaluated: tuple[Path, evaluation.Evaluation]) -> None:
    path, _ = evaluated
    assert {item.name for item in path.iterdir()} == {
        *("metrics.json", "predictions.csv"),
        *(f"{name}.png" for name in _FIGURES),
    }
    for name in _FIGURES:
        with Image.open(path / f"{name}.png") as image:
            assert min(image.size) > 100


def test_the_scores_are_those_of_the_predictions_that_pandas_reads(
    evaluated: tuple[Path, evaluation.Evaluation],
) -> None:
    path, outcome = evaluated
    table = pd.read_csv(path / "predictions.csv")
    assert list(table.columns) == ["index", "label", "prediction", *CLASS_NAMES]
    assert table["index"].tolist() == list(range(70))
    assert table["label"].tolist() == outcome.dataset.labels.tolist()
    probabilities = table[list(CLASS_NAMES)].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    assert np.array_equal(probabilities.argmax(1), table["prediction"])
    scores = json.loads((path / "metrics.json").read_text())
    assert scores["accuracy"] == pytest.approx((table["label"] == table["prediction"]).mean())
    own = probabilities[np.arange(70), table["label"]]
    assert scores["loss"] == pytest.approx(-np.log(own).mean(), abs=1e-5)
    assert (scores["checkpoint"], scores["split"], scores["tta"]) == (5, "test", "none")


def test_the_csv_has_a_row_an_image_and_no_blank_lines(evaluated: tuple[Path, evaluation.Evaluation]) -> None:
    path, _ = evaluated
    with (path / "predictions.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert {len(row) for row in rows} == {13}
    assert len(rows) == 71


def test_another_split_and_mirror_images_are_scored_beside_it(
    saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluated: tuple[Path, evaluation.Evaluation]
) -> None:
    monkeypatch.setattr(evaluation, "_figures", lambda _: iter(()))  # drawn by the fixture already
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    validation = evaluation.run(run, "best", "validation", "none")
    assert len(validation.dataset) == 40
    mirrored = evaluation.run(run, "5", "test", "mirror")
    assert np.abs(mirrored.assessment.probabilities - evaluated[1].assessment.probabilities).max() > 1e-4
    assert json.loads((run / "evaluation" / "test" / "metrics.json").read_text())["tta"] == "mirror"
    assert json.loads((run / "evaluation" / "validation" / "metrics.json").read_text())["examples"] == 40


@pytest.mark.parametrize("flip", ["none", "alternating"])
def test_mirror_images_come_with_a_note_where_none_were_trained_on(
    flip: str, saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluation, "_figures", lambda _: iter(()))
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    config = json.loads((run / "config.json").read_text())
    config["augment"]["flip"] = flip
    (run / "config.json").write_text(json.dumps(config))
    evaluation.run(run, "latest", "test", "mirror")
    assert ("--tta mirror may cost accuracy" in capsys.readouterr().out) == (flip == "none")


def test_files_are_written_though_the_reader_of_the_tables_leaves(
    saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_figures", lambda _: iter(()))

    def leave(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(cli, "print_rich", leave)
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    with pytest.raises(BrokenPipeError):
        evaluation.run(run, "latest", "test", "none")
    assert (run / "evaluation" / "test" / "metrics.json").is_file()


def test_a_split_without_images_is_refused(saved_run: Path, tmp_path: Path) -> None:
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


def test_the_training_images_are_those_that_the_run_trained_on(saved_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_figures", lambda _: iter(()))
        outcome = evaluation.run(run, "latest", "train", "none")
    splits = load(DataConfig(name="synthetic", synthetic_train_size=200, synthetic_test_size=70, validation_size=40))
    assert np.array_equal(outcome.dataset.images, splits.train.images)


def test_a_place_that_cannot_be_written_is_refused_before_any_work(saved_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    (run / "evaluation").write_text("in the way")
    with pytest.raises(FmnistError, match=r"evaluation is a file, not a directory"):
        evaluation.run(run, "latest", "test", "none")
