"""The decoded copy: written once, verified by its digests, without touching files of other tools."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fmnist_jax
from fmnist_jax.config.schema import DataConfig
from fmnist_jax.data import dataset, decoded, synthetic
from fmnist_jax.data.dataset import Dataset, Splits
from fmnist_jax.data.decoded import refuse_other_files
from fmnist_jax.errors import DataError


def draw_dataset(size: int, seed: int = 0) -> Dataset:
    return Dataset(*synthetic.draw(size, seed))


ARRAYS = {
    "train_images": draw_dataset(12, 1).images,
    "train_labels": draw_dataset(12, 1).labels,
    "test_images": draw_dataset(4, 2).images,
    "test_labels": draw_dataset(4, 2).labels,
}


@pytest.fixture
def prepared_dirs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces the arrays of TFDS by small ones, and lists the directories that they were prepared in."""
    directories: list[Path] = []

    def load(data_dir: Path, raw_dir: Path | None) -> dict[str, np.ndarray]:
        (data_dir / "fashion_mnist").mkdir(parents=True, exist_ok=True)
        directories.append(data_dir)
        return {name: array.copy() for name, array in ARRAYS.items()}

    tfds = SimpleNamespace(load=load)
    monkeypatch.setattr(fmnist_jax.data, "fashion_mnist", tfds, raising=False)
    return directories


def load_and_check(directory: Path) -> Splits:
    """Loads the splits, which must be `ARRAYS`, whatever was in the directory."""
    splits = dataset.load(DataConfig(dir=directory, validation_size=0))
    for name, array in ARRAYS.items():
        split, kind = name.split("_")
        np.testing.assert_array_equal(getattr(getattr(splits, split), kind), array, strict=True)
    return splits


def test_decoded_copy_is_written_once_and_memory_mapped(tmp_path: Path, prepared_dirs: list[Path]) -> None:
    assert isinstance(load_and_check(tmp_path).test.images, np.memmap)
    assert isinstance(load_and_check(tmp_path).test.images, np.memmap)
    assert prepared_dirs == [tmp_path]
    assert [path.name for path in (tmp_path / "fashion_mnist").iterdir()] == ["decoded-3.0.1"]


Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy", "digests.json"])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda raw: raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:], id="changed byte"),
        pytest.param(lambda raw: raw[: len(raw) // 2], id="truncated"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"[]", id="other content"),
        pytest.param(lambda _: b"[" * 100_000, id="nested"),
        pytest.param(None, id="missing"),
    ],
)
def test_damaged_copy_is_detected_and_replaced(
    name: str, damage: Damage | None, tmp_path: Path, prepared_dirs: list[Path]
) -> None:
    load_and_check(tmp_path)
    path = tmp_path / "fashion_mnist" / "decoded-3.0.1" / name
    raw = path.read_bytes()
    path.unlink() if damage is None else path.write_bytes(damage(raw))
    load_and_check(tmp_path)
    assert len(prepared_dirs) == 2
    assert path.read_bytes() == raw


@pytest.mark.parametrize("flip", [1, 8, 32])
def test_changed_bytes_of_an_array_file_never_reach_the_data(
    flip: int, tmp_path: Path, prepared_dirs: list[Path]
) -> None:
    load_and_check(tmp_path)
    path = tmp_path / "fashion_mnist" / "decoded-3.0.1" / "test_labels.npy"
    raw = path.read_bytes()
    for index in range(len(raw)):
        path.write_bytes(raw[:index] + bytes([raw[index] ^ flip]) + raw[index + 1 :])
        load_and_check(tmp_path)
    load_and_check(tmp_path)  # the last copy, which is intact
    assert len(prepared_dirs) == 1 + len(raw)


def test_unfinished_copy_is_not_used(
    tmp_path: Path, prepared_dirs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []

    def save_two_files_then_interrupt(path: Path, array: np.ndarray) -> None:
        saved.append(path.name)
        path.touch()
        if len(saved) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", save_two_files_then_interrupt)
        with pytest.raises(KeyboardInterrupt):
            load_and_check(tmp_path)
    assert not (tmp_path / "fashion_mnist" / "decoded-3.0.1").exists()
    load_and_check(tmp_path)
    load_and_check(tmp_path)
    assert len(prepared_dirs) == 2


def test_failure_to_save_the_copy_warns_once_and_the_data_are_loaded(
    tmp_path: Path, prepared_dirs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path, array: np.ndarray) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    load_and_check(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert "--data.dir" in line
    assert [path.name for path in (tmp_path / "fashion_mnist").iterdir()] == []


def test_prepared_data_in_an_unwritable_directory_are_loaded(
    tmp_path: Path, prepared_dirs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tmp_path / "fashion_mnist" / "3.0.1"
    version.mkdir(parents=True)
    (version / "dataset_info.json").write_text('{"fileFormat": "array_record"}')
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for any user but root
    monkeypatch.setattr(Path, "mkdir", _deny_decoded_directory)
    load_and_check(tmp_path)
    assert prepared_dirs == [tmp_path]


def _deny_decoded_directory(path: Path, **_: Any) -> None:
    if "decoded" in path.name:
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("dataset_info", ['{"fileFormat": "tfrecord"}', "{}", "[]", "{", ""])
def test_data_prepared_by_another_tool_are_left_untouched(
    dataset_info: str, tmp_path: Path, prepared_dirs: list[Path]
) -> None:
    version = tmp_path / "fashion_mnist" / "3.0.1"
    version.mkdir(parents=True)
    (version / "dataset_info.json").write_text(dataset_info)
    load_and_check(tmp_path)
    load_and_check(tmp_path)
    assert prepared_dirs == [tmp_path]
    assert [path.name for path in (tmp_path / "fashion_mnist").rglob("*")] == ["3.0.1", "dataset_info.json"]
    assert (tmp_path / "fmnist_jax" / "fashion_mnist" / "decoded-3.0.1").is_dir()


def test_decoded_copy_needs_neither_tfds_nor_the_original_files(tmp_path: Path, prepared_dirs: list[Path]) -> None:
    load_and_check(tmp_path)
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from fmnist_jax import DataConfig, load\n"
        f"splits = load(DataConfig(dir=Path({str(tmp_path)!r}), raw_dir=Path('/nonexistent'), validation_size=0))\n"
        "loaded = {'tensorflow_datasets', 'tensorflow', 'fmnist_jax.data.fashion_mnist'} & set(sys.modules)\n"
        "print(json.dumps([splits.test.labels.tolist(), sorted(loaded)]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1])}
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert json.loads(completed.stdout) == [ARRAYS["test_labels"].tolist(), []]


def test_raw_dir_with_files_of_another_data_set_is_rejected(tmp_path: Path) -> None:
    refuse_other_files(None, tmp_path)
    refuse_other_files(tmp_path / "gone", tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"digits")
    with pytest.raises(
        DataError, match=r"does not hold the files of Fashion-MNIST, which is already prepared in .*--data\.name idx"
    ):
        refuse_other_files(tmp_path, tmp_path)


def test_raw_dir_with_the_original_files_is_accepted(raw_dir: Path, tmp_path: Path) -> None:
    refuse_other_files(raw_dir, tmp_path)


def test_leftovers_of_killed_processes_are_removed_but_not_what_others_are_writing(
    tmp_path: Path, prepared_dirs: list[Path]
) -> None:
    old, new = (tmp_path / "fashion_mnist" / f"decoded-3.0.1.unfinished-{name}" for name in ("1", "2"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    load_and_check(tmp_path)
    assert sorted(path.name for path in (tmp_path / "fashion_mnist").iterdir()) == ["decoded-3.0.1", new.name]


def test_copy_that_another_process_has_finished_meanwhile_is_kept(tmp_path: Path, prepared_dirs: list[Path]) -> None:
    cache = tmp_path / "fashion_mnist" / "decoded-3.0.1"
    load_and_check(tmp_path)
    before = cache.stat().st_ino
    decoded._write_cache(cache, ARRAYS)
    assert cache.stat().st_ino == before
    assert [path.name for path in cache.parent.iterdir()] == ["decoded-3.0.1"]
