"""What files hold, and the names of its classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_jax.config.schema import DataConfig
from fmnist_jax.data.files import read
from fmnist_jax.errors import DataError
from tests.data.test_idx import write


def _npz(folder: Path, **changed: Any) -> DataConfig:
    images = np.zeros((2, 8, 8), np.uint8)
    arrays = {"train_images": images, "train_labels": [0, 1], "test_images": images, "test_labels": [4, 2], **changed}
    np.savez(folder / "a.npz", **arrays)
    return DataConfig(name="npz", file=folder / "a.npz")


def test_classes_without_names_are_called_by_their_numbers(tmp_path: Path) -> None:
    found = read(_npz(tmp_path))
    assert found.class_names == ("0", "1", "2", "3", "4")
    assert found.path == tmp_path / "a.npz"
    assert found.test_labels.tolist() == [4, 2]
    write(tmp_path / "raw", compressed=True)
    found = read(DataConfig(name="idx", raw_dir=tmp_path / "raw"))
    assert (found.path, found.class_names) == (tmp_path / "raw", ("0", "1", "2"))


def test_names_are_taken_from_the_file(tmp_path: Path) -> None:
    assert read(_npz(tmp_path, class_names=["a", "é", "c", "d", "e"])).class_names == ("a", "é", "c", "d", "e")


@pytest.mark.parametrize("names", [np.arange(5), np.array([["a", "b"]]), np.array([b"a", b"b"])])
def test_names_that_are_no_row_of_text_are_refused(names: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"class_names are .*: expected one row of text"):
        read(_npz(tmp_path, class_names=names))


def test_labels_that_number_no_classes_are_refused_before_each_gets_a_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels reach 2000000000: number the classes from 0, below"):
        read(_npz(tmp_path, train_labels=[0, 2_000_000_000]))


def test_more_classes_than_a_training_can_count_are_refused(tmp_path: Path) -> None:
    names = np.array([f"class {label}" for label in range(1001)])
    with pytest.raises(DataError, match=r"there are 1,001 class_names: expected at most 1,000"):
        read(_npz(tmp_path, class_names=names))
    assert len(read(_npz(tmp_path, class_names=names[:1000])).class_names) == 1000
