"""Separately trained runs, scored as an ensemble."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from experiments.results import ensemble, tables
from fmnist_jax import PRESETS, Config, FmnistError, to_dict

_SUMMARY = {
    **{"test_loss": 0.3, "parameters": 12_345, "steps": 7, "train_seconds": 100.0, "compile_seconds": 1.0},
    **{"images_per_second": 5.0, "state_digest": "d", "dataset": "fashion_mnist", "dataset_digest": "e"},
}
_ENVIRONMENT = {
    **{"python": "3.11", "packages": {"jax": "0.10"}, "processor": "Fast One", "cpu_count": 2, "backend": "cpu"},
    **{"devices": ["cpu"], "git_commit": "a" * 40},
}
_LABELS = np.array([0, 1, 2, 3])


def make_logits(*predicted: int) -> np.ndarray:
    """Logits that are highest for the given class of each image, and nearly as high for the true one."""
    logits = np.zeros((4, 10), np.float32)
    logits[np.arange(4), _LABELS] = 3.0
    logits[np.arange(4), predicted] += 3.1
    return logits


def write_run(path: Path, seed: int, config: Config, **predictions: np.ndarray) -> Path:
    path.mkdir()
    full_config = replace(config, train=replace(config.train, seed=seed), data=replace(config.data, validation_size=0))
    accuracy = float(np.mean(predictions["logits"].argmax(-1) == _LABELS))
    summary = {**_SUMMARY, "test_accuracy": accuracy, "test_accuracy_mirrored": None, "seed": seed}
    summary["epochs"] = config.train.epochs
    for name, values in (("config", to_dict(full_config)), ("summary", summary), ("environment", _ENVIRONMENT)):
        (path / f"{name}.json").write_text(json.dumps(values))
    arrays: Any = {"labels": _LABELS, **predictions}
    np.savez(path / "predictions.npz", **arrays)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, ...]:
    """Each misclassifies different images, so that two of three are correct on each image."""
    wrong = ((9, 1, 2, 3), (0, 9, 2, 3), (0, 1, 9, 9))
    return tuple(
        write_run(tmp_path / str(i), i, PRESETS["fast"], logits=make_logits(*predicted))
        for i, predicted in enumerate(wrong)
    )


def test_mean_probabilities_are_scored_and_recorded_as_a_separate_row(
    runs: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ensemble.main(ensemble.Arguments(runs, record="fast-ensemble", results=tmp_path / "0"))
    printed = capsys.readouterr().out
    assert [line.rpartition(": ")[2] for line in printed.splitlines()] == ["75.00%", "75.00%", "50.00%", "100.00%"]
    record = json.loads((tmp_path / "0" / "fast-ensemble.json").read_text())
    assert (record["members"], record["train_seconds"], record["full_length"]) == (3, 300.0, True)
    assert record["state_digest"] is record["images_per_second"] is None  # a member's values are not the ensemble's
    probabilities = np.mean([softmax(np.load(run / "predictions.npz")["logits"], -1) for run in runs], 0)
    assert record["test_loss"] == pytest.approx(-np.log(probabilities[np.arange(4), _LABELS]).mean(), rel=1e-6)
    row = f"| fast, 3 averaged | 12,345 | {PRESETS['fast'].train.epochs} | 3 | 100.00% |  |  | 300 s | 2 cores of"
    assert row in tables.make_tables([record, {**record, "members": 2}])["results"]


def test_training_time_of_members_is_listed_by_machine(runs: tuple[Path, ...], tmp_path: Path) -> None:
    gpu = {**_ENVIRONMENT, "backend": "gpu", "devices": ["H100"], "packages": {"jax": "0.11"}, "git_commit": "b" * 40}
    (runs[1] / "environment.json").write_text(json.dumps(gpu))
    ensemble.main(ensemble.Arguments(runs, record="fast-averaged", results=tmp_path / "0"))
    record = json.loads((tmp_path / "0" / "fast-averaged.json").read_text())
    table = tables.make_tables([record])["accelerated"]
    assert record["train_seconds"] == 300.0
    assert "| 200 s; 100 s | 2 cores of Fast One (2 of the members); H100 (1 of the members) |" in table
    assert "At commit aaaaaaa, bbbbbbb, with jax 0.10, 0.11;" in table


def test_mirrored_accuracy_needs_mirrored_logits_of_every_run(tmp_path: Path) -> None:
    right, wrong = make_logits(0, 1, 2, 3), make_logits(9, 9, 9, 9)
    runs = [write_run(tmp_path / str(i), i, PRESETS["fast"], logits=wrong, mirrored_logits=right) for i in range(2)]
    assert ensemble.main(ensemble.Arguments(tuple(runs)))["test_accuracy_mirrored"] == 1.0
    unmirrored = write_run(tmp_path / "one", 2, PRESETS["fast"], logits=wrong)
    assert ensemble.main(ensemble.Arguments((*runs, unmirrored)))["test_accuracy_mirrored"] is None


def test_runs_of_a_custom_config_are_scored_but_not_recorded(tmp_path: Path) -> None:
    custom = replace(PRESETS["fast"], preset="custom")
    runs = tuple(write_run(tmp_path / str(i), i, custom, logits=make_logits(0, 1, 2, 3)) for i in range(2))
    assert ensemble.main(ensemble.Arguments(runs))["test_accuracy"] == 1.0
    with pytest.raises(FmnistError, match="custom is not a preset"):
        ensemble.main(ensemble.Arguments(runs, record="mine", results=tmp_path / "results"))
    assert not (tmp_path / "results").exists()


def test_runs_that_form_no_ensemble_are_refused(runs: tuple[Path, ...], tmp_path: Path) -> None:
    def message(*run_dirs: Path) -> str:
        with pytest.raises(FmnistError) as exc_info:
            ensemble.main(ensemble.Arguments(run_dirs))
        return str(exc_info.value)

    other = write_run(tmp_path / "other", 3, PRESETS["demo"], logits=make_logits(0, 1, 2, 3))
    assert "in more than its seed" in message(runs[0], other)
    assert "all with different seeds" in message(runs[0], runs[0])
    assert "all with different seeds" in message(runs[0])
    population = write_run(tmp_path / "members", 5, PRESETS["fast"], logits=make_logits(0, 1, 2, 3))
    (population / "summary.json").write_text(json.dumps({**_SUMMARY, "population": {"seeds": [5, 6]}}))
    assert "is a population" in message(runs[0], population)
    assert "its summary.json is missing" in message(runs[0], tmp_path)


def test_runs_on_other_images_or_without_their_files_are_refused(runs: tuple[Path, ...]) -> None:
    summary = json.loads((runs[1] / "summary.json").read_text())
    (runs[1] / "summary.json").write_text(json.dumps({**summary, "dataset_digest": "f"}))
    with pytest.raises(FmnistError, match=rf"{runs[1]} was trained on other images than {runs[0]}"):
        ensemble.read_members(runs)
    (runs[1] / "predictions.npz").unlink()
    with pytest.raises(FmnistError, match=r"predictions\.npz cannot be read .*: restore it"):
        ensemble.read_members(runs)
    (runs[1] / "summary.json").write_text("{")
    with pytest.raises(FmnistError, match=r"summary\.json cannot be read .*: restore it"):
        ensemble.read_members(runs)


def test_record_of_a_single_run_is_not_replaced(runs: tuple[Path, ...], tmp_path: Path) -> None:
    (tmp_path / "fast-seed0.json").write_text('{"preset": "fast"}')
    with pytest.raises(FmnistError, match=r"fast-seed0\.json is the record of a single run: give another"):
        ensemble.main(ensemble.Arguments(runs, record="fast-seed0", results=tmp_path))
    for _ in range(2):
        ensemble.main(ensemble.Arguments(runs, record="fast-averaged", results=tmp_path))
