"""Contents of data files, and the names of their classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_jax.config.schema import DataConfig
from fmnist_jax.data.files import read
from fmnist_jax.errors import DataError
from tests.data.test_idx import write


def _write_npz(folder: Path, **overrides: Any) -> DataConfig:
    images = np.zeros((2, 8, 8), np.uint8)
    arrays = {"train_images": images, "train_labels": [0, 1], "test_images": images, "test_labels": [4, 2], **overrides}
    np.savez(folder / "a.npz", **arrays)
    return DataConfig(name="npz", file=folder / "a.npz")


def test_unnamed_classes_are_named_by_their_numbers(tmp_path: Path) -> None:
    contents = read(_write_npz(tmp_path))
    assert contents.class_names == ("0", "1", "2", "3", "4")
    assert contents.path == tmp_path / "a.npz"
    assert contents.test_labels.tolist() == [4, 2]
    write(tmp_path / "raw", compressed=True)
    contents = read(DataConfig(name="idx", raw_dir=tmp_path / "raw"))
    assert (contents.path, contents.class_names) == (tmp_path / "raw", ("0", "1", "2"))


def test_class_names_are_read_from_the_file(tmp_path: Path) -> None:
    assert read(_write_npz(tmp_path, class_names=["a", "é", "c", "d", "e"])).class_names == ("a", "é", "c", "d", "e")


@pytest.mark.parametrize("names", [np.arange(5), np.array([["a", "b"]]), np.array([b"a", b"b"])])
def test_class_names_that_are_not_a_row_of_text_are_rejected(names: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"class_names are .*: expected one row of text"):
        read(_write_npz(tmp_path, class_names=names))


def test_implausibly_large_labels_are_rejected_before_classes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels reach 2000000000: number the classes from 0, below"):
        read(_write_npz(tmp_path, train_labels=[0, 2_000_000_000]))


def test_more_than_1000_classes_are_rejected(tmp_path: Path) -> None:
    names = np.array([f"class {label}" for label in range(1001)])
    with pytest.raises(DataError, match=r"there are 1,001 class_names: expected at most 1,000"):
        read(_write_npz(tmp_path, class_names=names))
    assert len(read(_write_npz(tmp_path, class_names=names[:1000])).class_names) == 1000
