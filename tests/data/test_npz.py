"""The user's own arrays in an .npz file, and the rejection of other files."""

import io
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


def _load_error(path: Path) -> str:
    with pytest.raises(DataError) as exc_info:
        load(path)
    assert len(str(exc_info.value).splitlines()) == 1
    return str(exc_info.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("extra", [{}, {"class_names": np.array(["cat", "dog"])}])
def test_arrays_are_read_unchanged(save: Any, extra: dict[str, np.ndarray], tmp_path: Path) -> None:
    save(tmp_path / "a.npz", **_ARRAYS, **extra, other=np.zeros(3))
    actual = load(tmp_path / "a.npz")
    assert actual.keys() == {*ARRAYS, *extra}
    for name, array in {**_ARRAYS, **extra}.items():
        np.testing.assert_array_equal(actual[name], array, strict=True)


@pytest.mark.parametrize("name", ARRAYS)
def test_missing_array_is_named_with_how_to_add_it(name: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{other: array for other, array in _ARRAYS.items() if other != name})  # type: ignore[arg-type]
    expected = f"{tmp_path}/a.npz has no {name}: write all arrays with numpy.savez(file, {name}=..., ...)"
    assert _load_error(tmp_path / "a.npz") == expected


def test_object_arrays_are_rejected_because_they_would_be_unpickled(tmp_path: Path) -> None:
    objects = {**_ARRAYS, "class_names": np.array(["cat", None])}
    np.savez(tmp_path / "a.npz", **objects)  # type: ignore[arg-type]
    assert "Object arrays cannot be loaded" in _load_error(tmp_path / "a.npz")


def test_archive_member_that_is_not_an_array_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **_ARRAYS)  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("class_names", "cat\ndog\n")
    assert "(class_names is not a NumPy array): write it with numpy.savez" in _load_error(path)


def test_encrypted_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **_ARRAYS)  # type: ignore[arg-type]
    content = bytearray(path.read_bytes())
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        for match in re.finditer(re.escape(header), bytes(content)):
            content[match.start() + flags] |= 1
    path.write_bytes(content)
    assert "is encrypted" in _load_error(path)


def test_array_too_large_for_memory_is_rejected(tmp_path: Path) -> None:
    path, header = tmp_path / "a.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**15, 28, 28)})
    with zipfile.ZipFile(path, "w") as archive:
        for name in ARRAYS:
            archive.writestr(f"{name}.npy", header.getvalue())
    assert _load_error(path).startswith(f"{path} does not fit in memory (Unable to allocate ")


def test_missing_invalid_and_damaged_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    assert _load_error(path) == f"--data.file is {path}, which does not exist: give the path of the .npz file"
    assert "Is a directory" in _load_error(tmp_path)
    path.write_text("text")
    assert "is not an .npz file: write one with numpy.savez(file, train_images=..., " in _load_error(path)
    with path.open("wb") as file:
        np.save(file, _ARRAYS["train_images"])
    assert "is not an .npz file" in _load_error(path)
    np.savez(path, **_ARRAYS)  # type: ignore[arg-type]
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    assert "Bad CRC-32" in _load_error(path)
