"""Where a data set is looked for: flags, the environment, the record of a run, TFDS's default, in that order."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fmnist_jax.config.schema import DataConfig
from fmnist_jax.data import places
from fmnist_jax.data.places import DataPaths, data_dir, raw_dir, tfds_dir, with_local_paths
from fmnist_jax.errors import DataError


@pytest.fixture(autouse=True)
def _clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FMNIST_DATA_DIR", "FMNIST_RAW_DIR", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_directories_come_from_the_configuration_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_dir(DataConfig()) == Path.home() / "tensorflow_datasets"
    assert raw_dir(DataConfig()) is None
    for name, value in (("TFDS_DATA_DIR", "/tfds"), ("FMNIST_DATA_DIR", "/fmnist"), ("FMNIST_RAW_DIR", "~/raw")):
        monkeypatch.setenv(name, value)
        if name.endswith("DATA_DIR"):
            assert data_dir(DataConfig()) == Path(value)
    assert raw_dir(DataConfig()) == Path.home() / "raw"
    assert data_dir(DataConfig(dir=Path("here"))) == Path.cwd() / "here"
    assert raw_dir(DataConfig(raw_dir=Path("here"))) == Path.cwd() / "here"
    assert data_dir(DataConfig(dir="~/here")) == Path.home() / "here"  # type: ignore[arg-type]


@pytest.mark.parametrize("variable", ["FMNIST_DATA_DIR", "TFDS_DATA_DIR"])
def test_url_in_an_environment_variable_is_rejected_naming_the_variable(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "s3://bucket/data")
    with pytest.raises(DataError, match=f"{variable} is s3:/bucket/data, an address"):
        data_dir(DataConfig())
    assert data_dir(DataConfig(dir=Path("/here"))) == Path("/here")


def test_default_without_a_home_directory_is_rejected_with_a_workaround(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as if no home directory were known
    with pytest.raises(DataError, match=r"no home directory.*--data\.dir or FMNIST_DATA_DIR"):
        data_dir(DataConfig())


def test_recorded_paths_of_own_data_are_kept_unless_overridden(tmp_path: Path) -> None:
    recorded = DataConfig(name="npz", file=tmp_path / "gone.npz")
    assert with_local_paths(recorded) == recorded
    assert with_local_paths(recorded, DataPaths(file=Path("a.npz"))) == DataConfig(name="npz", file=Path("a.npz"))
    recorded = DataConfig(name="idx", raw_dir=tmp_path / "gone")
    assert with_local_paths(recorded) == recorded
    assert with_local_paths(recorded, DataPaths(raw_dir=tmp_path)) == DataConfig(name="idx", raw_dir=tmp_path)


def test_recorded_directories_are_used_if_they_exist_and_are_not_overridden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    existing, missing = tmp_path / "there", tmp_path / "gone"
    (existing / "fashion_mnist").mkdir(parents=True)
    recorded = DataConfig(dir=existing, raw_dir=existing, seed=7)
    assert with_local_paths(recorded) == recorded
    assert with_local_paths(DataConfig(dir=missing, raw_dir=missing)) == DataConfig()
    assert with_local_paths(DataConfig(dir=tmp_path)) == DataConfig(), "a directory without the data set is ignored"
    assert with_local_paths(recorded, DataPaths(dir=missing, raw_dir=missing)) == DataConfig(
        dir=missing, raw_dir=missing, seed=7
    )
    monkeypatch.setenv("FMNIST_DATA_DIR", str(missing))
    assert with_local_paths(recorded) == DataConfig(raw_dir=existing, seed=7)
    monkeypatch.setenv("FMNIST_RAW_DIR", str(missing))
    assert with_local_paths(recorded) == DataConfig(seed=7)
    assert with_local_paths(recorded, DataPaths(dir=existing)).dir == existing


def test_recorded_directory_that_cannot_be_accessed_is_ignored() -> None:
    assert with_local_paths(DataConfig(dir=Path("/" + "x" * 300))) == DataConfig()


@pytest.mark.parametrize(
    ("dataset_info", "shared"),
    [
        (json.dumps({"fileFormat": "array_record"}), True),
        (json.dumps({"fileFormat": "tfrecord"}), False),
        (json.dumps({"fileFormat": "riegeli"}), False),
        (json.dumps({"name": "fashion_mnist"}), False),  # TFRecord, before there were others
        ("[]", False),
        ("", False),
        ("[" * 100_000, False),
        (None, True),
    ],
)
def test_tfds_directory_is_shared_only_if_readable_without_tensorflow(
    dataset_info: str | None, shared: bool, tmp_path: Path
) -> None:
    version = tmp_path / "fashion_mnist" / "3.0.1"
    version.mkdir(parents=True)
    if dataset_info is not None:
        (version / "dataset_info.json").write_text(dataset_info)
    assert tfds_dir(tmp_path) == (tmp_path if shared else tmp_path / "fmnist_jax")
    assert places.tfds_dir(tmp_path / "none") == tmp_path / "none"


@pytest.mark.parametrize(
    ("name", "overrides", "flag"),
    [
        ("fashion_mnist", {"file": Path("x.npz")}, "--data.file"),
        ("npz", {"raw_dir": Path("x")}, "--data.raw-dir"),
        ("npz", {"dir": Path("x")}, "--data.dir"),
        ("idx", {"file": Path("x")}, "--data.file"),
        ("synthetic", {"dir": Path("x")}, "--data.dir"),
        ("own", {"raw_dir": Path("x")}, "--data.raw-dir"),
    ],
)
def test_flag_that_data_of_this_kind_do_not_use_is_refused(name: Any, overrides: dict[str, Path], flag: str) -> None:
    with pytest.raises(DataError, match=f"^{flag} is x.*, which a run on {name} data does not use: omit it$"):
        places.with_local_paths(DataConfig(name=name), places.DataPaths(**overrides))
