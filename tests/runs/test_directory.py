"""The run directory: whole files, lines that survive a kill, and places that cannot be written."""

import json
from pathlib import Path

import numpy as np
import pytest

from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.schema import to_dict
from fmnist_jax.errors import FmnistError
from fmnist_jax.runs.directory import RunDirectory
from fmnist_jax.views import scores


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.make()
    return directory


def test_naming_a_directory_makes_nothing(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "a" / "run")
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_the_disk_has_are_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(FmnistError, match=r"bytes free and the run needs 1,000,000,000,000,000"):
        RunDirectory(tmp_path / "run").refuse_full_disk(10**15)


def test_a_configuration_comes_back(directory: RunDirectory) -> None:
    assert directory.read_config() is None
    directory.write_json("config.json", to_dict(PRESETS["fast"]))
    assert directory.read_config() == PRESETS["fast"]


def test_a_damaged_json_file_is_named(directory: RunDirectory) -> None:
    (directory.path / "config.json").write_text('{"preset":')
    with pytest.raises(FmnistError, match=r"config\.json is damaged"):
        directory.read_config()


def test_a_line_that_a_kill_cut_short_is_left_out_and_then_removed(directory: RunDirectory) -> None:
    for step in (1, 2):
        directory.append({"step": step})
    with directory.metrics.open("a") as file:
        file.write('{"step": 3, "train_lo')
    assert directory.records() == [{"step": 1}, {"step": 2}]
    assert directory.forget_after(1) == [{"step": 1}]
    assert directory.metrics.read_text() == '{"step": 1}\n'


def test_a_damaged_line_is_not_passed_over(directory: RunDirectory) -> None:
    directory.metrics.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(FmnistError, match=r"metrics\.jsonl is damaged"):
        directory.records()


def test_replacing_a_file_leaves_no_other_behind(directory: RunDirectory) -> None:
    for value in (1, 2):
        directory.write_json("summary.json", {"value": value})
    assert json.loads((directory.path / "summary.json").read_text()) == {"value": 2}
    assert {path.name for path in directory.path.iterdir()} == {"figures", "summary.json"}


def test_arrays_and_figures_are_written(directory: RunDirectory) -> None:
    directory.save_arrays("predictions.npz", {"labels": np.arange(3)})
    directory.save_figure("confusion_matrix", scores.confusion_matrix(np.eye(2, dtype=int), ["a", "b"]))
    with np.load(directory.path / "predictions.npz") as saved:
        assert saved["labels"].tolist() == [0, 1, 2]
    assert (directory.path / "figures" / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_that_cannot_be_written_is_named(directory: RunDirectory) -> None:
    (directory.path / "metrics.jsonl").mkdir()
    with pytest.raises(FmnistError, match=r"cannot write .*metrics\.jsonl"):
        directory.append({"step": 1})
    (directory.path / "predictions.npz").mkdir()
    with pytest.raises(FmnistError, match=r"cannot write .*predictions\.npz"):
        directory.save_arrays("predictions.npz", {"labels": np.arange(3)})
