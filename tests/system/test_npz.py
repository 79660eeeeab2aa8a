"""Whatever is wrong with an `.npz` file, NumPy raises one of the listed errors."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fmnist_jax.system.npz import NPZ_ERRORS


def _archive(compression: int = zipfile.ZIP_STORED) -> bytes:
    array, file = io.BytesIO(), io.BytesIO()
    np.save(array, np.arange(100))
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("a.npy", array.getvalue())
    return file.getvalue()


def _with_flags(flags: int) -> bytes:
    """An archive whose entry has other general-purpose flags, in both of its headers."""
    contents = bytearray(_archive())
    central = contents.index(b"PK\x01\x02")
    contents[6], contents[central + 8] = flags, flags
    return bytes(contents)


def _with_byte(contents: bytes, position: int) -> bytes:
    return contents[:position] + bytes([contents[position] ^ 0xFF]) + contents[position + 1 :]


def _npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(3))
    return file.getvalue()


@pytest.mark.parametrize(
    "contents",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK", id="cut short"),
        pytest.param(_archive()[:-10], id="without its end"),
        pytest.param(_with_byte(_archive(), 300), id="other bytes"),
        pytest.param(_with_byte(_archive(zipfile.ZIP_DEFLATED), 60), id="other deflated bytes"),
        pytest.param(_with_byte(_archive(zipfile.ZIP_LZMA), 60), id="other LZMA bytes"),
        pytest.param(_with_flags(0x01), id="encrypted"),
        pytest.param(_with_flags(0x20), id="patched"),
        pytest.param(_npy(), id="a single array"),
    ],
)
def test_damaged_files_raise_one_of_the_listed_errors(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    path.write_bytes(contents)
    with pytest.raises(NPZ_ERRORS), path.open("rb") as file, np.load(file) as arrays:
        _ = arrays["a"]


def test_intact_archive_is_read(tmp_path: Path) -> None:
    (tmp_path / "file.npz").write_bytes(_archive())
    with np.load(tmp_path / "file.npz") as arrays:
        np.testing.assert_array_equal(arrays["a"], np.arange(100))
