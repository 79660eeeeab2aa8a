"""One's own arrays in a file, and what is no such file."""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_jax.data.npz import ARRAYS, load
from fmnist_jax.errors import DataError

_ARRAYS = {
    "train_images": np.arange(2 * 64, dtype=np.uint8).reshape(2, 8, 8),
    "train_labels": np.array([0, 1]),
    "test_images": np.zeros((1, 8, 8), np.uint8),
    "test_labels": np.array([1]),
}


def _refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("more", [{}, {"class_names": np.array(["cat", "dog"])}])
def test_arrays_are_read_as_they_were_written(save: Any, more: dict[str, np.ndarray], tmp_path: Path) -> None:
    save(tmp_path / "a.npz", **_ARRAYS, **more, other=np.zeros(3))
    found = load(tmp_path / "a.npz")
    assert found.keys() == {*ARRAYS, *more}
    for name, array in {**_ARRAYS, **more}.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_that_is_missing_is_named_with_how_to_add_it(name: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{other: array for other, array in _ARRAYS.items() if other != name})  # type: ignore[arg-type]
    says = f"{tmp_path}/a.npz has no {name}: write all arrays with numpy.savez(file, {name}=..., ...)"
    assert _refused(tmp_path / "a.npz") == says


def test_objects_are_refused_because_they_would_be_unpickled(tmp_path: Path) -> None:
    objects = {**_ARRAYS, "class_names": np.array(["cat", None])}
    np.savez(tmp_path / "a.npz", **objects)  # type: ignore[arg-type]
    assert "Object arrays cannot be loaded" in _refused(tmp_path / "a.npz")


def test_a_file_that_somebody_has_added_is_no_array(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **_ARRAYS)  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("class_names", "cat\ndog\n")
    assert "(class_names is not a NumPy array): write it with numpy.savez" in _refused(path)


def test_a_file_with_a_password_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **_ARRAYS)  # type: ignore[arg-type]
    content = bytearray(path.read_bytes())
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        for found in re.finditer(re.escape(header), bytes(content)):
            content[found.start() + flags] |= 1
    path.write_bytes(content)
    assert "is encrypted" in _refused(path)


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    assert _refused(path) == f"--data.file is {path}, which does not exist: give the path of the .npz file"
    assert "Is a directory" in _refused(tmp_path)
    path.write_text("text")
    assert "is not an .npz file: write one with numpy.savez(file, train_images=..., " in _refused(path)
    with path.open("wb") as file:
        np.save(file, _ARRAYS["train_images"])
    assert "is not an .npz file" in _refused(path)
    np.savez(path, **_ARRAYS)  # type: ignore[arg-type]
    whole = bytearray(path.read_bytes())
    whole[200] ^= 1
    path.write_bytes(whole)
    assert "Bad CRC-32" in _refused(path)
