"""Runs that were trained one by one, scored as an ensemble."""

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


def logits(*taken_for: int) -> np.ndarray:
    """Sure of the first class given for an image, and nearly as sure of the true one."""
    found = np.zeros((4, 10), np.float32)
    found[np.arange(4), _LABELS] = 3.0
    found[np.arange(4), taken_for] += 3.1
    return found


def leave(path: Path, seed: int, config: Config, **predictions: np.ndarray) -> Path:
    path.mkdir()
    whole = replace(config, train=replace(config.train, seed=seed), data=replace(config.data, validation_size=0))
    accuracy = float(np.mean(predictions["logits"].argmax(-1) == _LABELS))
    summary = {**_SUMMARY, "test_accuracy": accuracy, "test_accuracy_mirrored": None, "seed": seed}
    summary["epochs"] = config.train.epochs
    for name, values in (("config", to_dict(whole)), ("summary", summary), ("environment", _ENVIRONMENT)):
        (path / f"{name}.json").write_text(json.dumps(values))
    arrays: Any = {"labels": _LABELS, **predictions}
    np.savez(path / "predictions.npz", **arrays)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, ...]:
    """Each takes another image for another class, so that two of three are right of each."""
    wrong = ((9, 1, 2, 3), (0, 9, 2, 3), (0, 1, 9, 9))
    return tuple(leave(tmp_path / str(i), i, PRESETS["fast"], logits=logits(*each)) for i, each in enumerate(wrong))


def test_the_mean_of_probabilities_is_scored_and_recorded_as_a_row_of_its_own(
    runs: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ensemble.main(ensemble.Arguments(runs, record="fast-ensemble", results=tmp_path / "0"))
    printed = capsys.readouterr().out
    assert [line.rpartition(": ")[2] for line in printed.splitlines()] == ["75.00%", "75.00%", "50.00%", "100.00%"]
    found = json.loads((tmp_path / "0" / "fast-ensemble.json").read_text())
    assert (found["members"], found["train_seconds"], found["full_length"]) == (3, 300.0, True)
    assert found["state_digest"] is found["images_per_second"] is None  # those of one member are not the ensemble's
    probabilities = np.mean([softmax(np.load(run / "predictions.npz")["logits"], -1) for run in runs], 0)
    assert found["test_loss"] == pytest.approx(-np.log(probabilities[np.arange(4), _LABELS]).mean(), rel=1e-6)
    row = f"| fast, 3 averaged | 12,345 | {PRESETS['fast'].train.epochs} | 1 | 100.00% |  |  | 300 s | 2 cores of"
    assert row in tables.tables([found, {**found, "members": 2}])["results"]


def test_the_time_of_each_member_is_of_the_machine_that_trained_it(runs: tuple[Path, ...], tmp_path: Path) -> None:
    gpu = {**_ENVIRONMENT, "backend": "gpu", "devices": ["H100"], "packages": {"jax": "0.11"}, "git_commit": "b" * 40}
    (runs[1] / "environment.json").write_text(json.dumps(gpu))
    ensemble.main(ensemble.Arguments(runs, record="fast-averaged", results=tmp_path / "0"))
    found = json.loads((tmp_path / "0" / "fast-averaged.json").read_text())
    table = tables.tables([found])["accelerated"]
    assert found["train_seconds"] == 300.0
    assert "| 200 s; 100 s | 2 cores of Fast One (2 of the members); H100 (1 of the members) |" in table
    assert "At commit aaaaaaa, bbbbbbb, with jax 0.10, 0.11;" in table


def test_mirror_images_count_where_every_run_has_scored_them(tmp_path: Path) -> None:
    right, wrong = logits(0, 1, 2, 3), logits(9, 9, 9, 9)
    both = [leave(tmp_path / str(i), i, PRESETS["fast"], logits=wrong, mirrored_logits=right) for i in range(2)]
    assert ensemble.main(ensemble.Arguments(tuple(both)))["test_accuracy_mirrored"] == 1.0
    one = leave(tmp_path / "one", 2, PRESETS["fast"], logits=wrong)
    assert ensemble.main(ensemble.Arguments((*both, one)))["test_accuracy_mirrored"] is None


def test_runs_of_no_preset_are_scored_and_not_recorded(tmp_path: Path) -> None:
    custom = replace(PRESETS["fast"], preset="custom")
    both = tuple(leave(tmp_path / str(i), i, custom, logits=logits(0, 1, 2, 3)) for i in range(2))
    assert ensemble.main(ensemble.Arguments(both))["test_accuracy"] == 1.0
    with pytest.raises(FmnistError, match="custom is not a preset"):
        ensemble.main(ensemble.Arguments(both, record="mine", results=tmp_path / "results"))
    assert not (tmp_path / "results").exists()


def test_what_makes_no_ensemble_is_refused(runs: tuple[Path, ...], tmp_path: Path) -> None:
    def message(*given: Path) -> str:
        with pytest.raises(FmnistError) as caught:
            ensemble.main(ensemble.Arguments(given))
        return str(caught.value)

    other = leave(tmp_path / "other", 3, PRESETS["demo"], logits=logits(0, 1, 2, 3))
    assert "in more than its seed" in message(runs[0], other)
    assert "all with different seeds" in message(runs[0], runs[0])
    assert "all with different seeds" in message(runs[0])
    members = leave(tmp_path / "members", 5, PRESETS["fast"], logits=logits(0, 1, 2, 3))
    (members / "summary.json").write_text(json.dumps({**_SUMMARY, "population": {"seeds": [5, 6]}}))
    assert "is a population" in message(runs[0], members)
    assert "its summary.json is missing" in message(runs[0], tmp_path)
