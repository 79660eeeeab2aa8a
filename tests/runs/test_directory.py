"""The run directory: atomic files, lines that survive a kill, and paths that cannot be written."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.record import to_dict
from fmnist_jax.config.schema import Config, DataConfig
from fmnist_jax.errors import ConfigError, FmnistError
from fmnist_jax.runs.directory import RunDirectory, create_unique, require_config
from fmnist_jax.views import scores


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    return directory


def test_constructing_a_run_directory_creates_nothing(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "a" / "run")
    assert list(tmp_path.iterdir()) == []


def test_refuse_full_disk_reports_free_and_required_bytes(tmp_path: Path) -> None:
    with pytest.raises(FmnistError, match=r"bytes free and the run needs 1,000,000,000,000,000"):
        RunDirectory(tmp_path / "run").refuse_full_disk(10**15)


def test_read_config_returns_none_before_and_the_config_after_writing(directory: RunDirectory) -> None:
    assert directory.read_config() is None
    directory.write_json("config.json", to_dict(PRESETS["fast"]))
    assert directory.read_config() == PRESETS["fast"]


@pytest.mark.parametrize("text", ['{"preset":', '{"a":' * 100_000])
def test_damaged_config_json_raises_an_error_naming_it(directory: RunDirectory, text: str) -> None:
    (directory.path / "config.json").write_text(text)
    with pytest.raises(FmnistError, match=r"config\.json is damaged"):
        directory.read_config()


def test_foreign_config_json_raises_config_error_with_its_path(directory: RunDirectory) -> None:
    (directory.path / "config.json").write_text('{"architectures": ["Bert"]}')
    with pytest.raises(ConfigError, match=r"/run/config\.json: the configuration has different .*: choose another run"):
        directory.read_config()


@pytest.mark.parametrize("text", ["{}", '{"test_accuracy": 1.0}', "[]"])
def test_foreign_summary_json_is_reported_as_damaged(directory: RunDirectory, text: str) -> None:
    assert directory.read_summary() is None
    (directory.path / "summary.json").write_text(text)
    with pytest.raises(FmnistError, match=r"summary\.json is damaged \(it h[^)]+\): restore it or choose another run"):
        directory.read_summary()


def test_partial_last_record_is_skipped_and_removed_by_truncate_records(directory: RunDirectory) -> None:
    for step in (1, 2):
        directory.append({"step": step})
    with directory.metrics.open("a") as file:
        file.write('{"step": 3, "train_lo')
    assert directory.records() == [{"step": 1}, {"step": 2}]
    assert directory.truncate_records(1) == [{"step": 1}]
    assert directory.metrics.read_text() == '{"step": 1}\n'


def test_appending_a_session_removes_a_partial_last_line(directory: RunDirectory) -> None:
    directory.append_session({"step": 1})
    with (directory.path / "sessions.jsonl").open("a") as file:
        file.write('{"step": 2, "run": {"dir": "ru')
    for step in (3, 4):
        directory.append_session({"step": step})
    assert directory.sessions() == [{"step": 1}, {"step": 3}, {"step": 4}]


@pytest.mark.parametrize("name", ["metrics.jsonl", "sessions.jsonl"])
def test_damaged_line_in_the_middle_raises_an_error_naming_the_file(directory: RunDirectory, name: str) -> None:
    (directory.path / name).write_text('{"step": 1}\ngarbage\n{"step": 3}\n')
    with pytest.raises(FmnistError, match=rf"{name} is damaged .*: fix or delete the line"):
        directory.records() if name == "metrics.jsonl" else directory.sessions()


def test_remove_unfinished_deletes_only_unfinished_files(directory: RunDirectory) -> None:
    directory.write_json("config.json", {})
    (directory.path / "figures").mkdir()
    for name in ("summary.json.0a1b2c3d4e5f6789.unfinished", "figures/curves.png.0a1b2c3d4e5f6789.unfinished"):
        (directory.path / name).touch()
    directory.remove_unfinished()
    assert sorted(path.name for path in directory.path.rglob("*")) == ["config.json", "figures"]


def test_rewriting_a_json_file_leaves_no_temporary_files(directory: RunDirectory) -> None:
    for value in (1, 2):
        directory.write_json("summary.json", {"value": value})
    assert json.loads((directory.path / "summary.json").read_text()) == {"value": 2}
    assert {path.name for path in directory.path.iterdir()} == {"summary.json"}


def test_save_arrays_and_save_figure_write_npz_and_png(directory: RunDirectory) -> None:
    directory.save_arrays("predictions.npz", {"labels": np.arange(3)})
    directory.save_figure("confusion_matrix", scores.confusion_matrix(np.eye(2, dtype=int), ["a", "b"]))
    with np.load(directory.path / "predictions.npz") as saved:
        assert saved["labels"].tolist() == [0, 1, 2]
    assert (directory.path / "figures" / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")


def test_unwritable_file_raises_an_error_naming_it(directory: RunDirectory) -> None:
    (directory.path / "metrics.jsonl").mkdir()
    with pytest.raises(FmnistError, match=r"cannot write .*metrics\.jsonl"):
        directory.append({"step": 1})
    (directory.path / "predictions.npz").mkdir()
    with pytest.raises(FmnistError, match=r"cannot write .*predictions\.npz"):
        directory.save_arrays("predictions.npz", {"labels": np.arange(3)})


def test_require_config_returns_that_of_a_run_and_refuses_another_directory(saved_run: Path, tmp_path: Path) -> None:
    assert require_config(saved_run) == RunDirectory(saved_run).read_config()
    with pytest.raises(FmnistError, match=r"has no config\.json: give a run directory written by fmnist_jax\.train"):
        require_config(tmp_path)


def test_create_unique_gives_concurrent_callers_distinct_directories(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create_unique, [tmp_path / "runs" / "fast"] * 16))
    assert sorted(created) == sorted((tmp_path / "runs").iterdir())
    assert {path.name for path in created} == {"fast", *(f"fast-{number}" for number in range(2, 17))}


def test_create_unique_skips_existing_files_and_dangling_symlinks(tmp_path: Path) -> None:
    (tmp_path / "fast").touch()
    (tmp_path / "fast-2").symlink_to("nowhere")
    assert create_unique(tmp_path / "fast") == tmp_path / "fast-3"


def test_create_unique_below_a_file_raises_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FmnistError, match=r"cannot make .*Not a directory.*choose another --run\.dir"):
        create_unique(tmp_path / "file" / "runs" / "fast")


def test_refuse_full_disk_checks_free_inodes_unless_they_are_unlimited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = os.statvfs(tmp_path)
    fields = {name: getattr(stats, name) for name in dir(stats) if name.startswith("f_")}
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**{**fields, "f_files": 1000, "f_favail": 30}))
    with pytest.raises(FmnistError, match=r"room for 30 more files and the run needs 200: .*df -i"):
        RunDirectory(tmp_path / "run").refuse_full_disk(1)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**{**fields, "f_files": 0, "f_favail": 0}))  # no limit
    RunDirectory(tmp_path / "run").refuse_full_disk(1)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl"])
def test_unreadable_file_raises_an_error_about_permissions(
    name: str, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(_: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_text", deny)
    read = directory.read_config if name == "config.json" else directory.records
    with pytest.raises(FmnistError, match=f"{name} cannot be read .Permission denied.: give yourself permission"):
        read()


def test_recorded_data_path_that_is_not_used_is_forgotten(tmp_path: Path) -> None:
    """An earlier version took it, and flags that are not used are refused."""
    config = Config(data=DataConfig(name="synthetic", dir=Path("/x"), raw_dir=Path("/y")))
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))
    assert require_config(tmp_path).data == DataConfig(name="synthetic")
    used = Config(data=DataConfig(dir=Path("/x"), raw_dir=Path("/y")))
    (tmp_path / "config.json").write_text(json.dumps(to_dict(used)))
    assert require_config(tmp_path) == used
