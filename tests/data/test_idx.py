"""IDX files, against bytes written according to the specification."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as st_numpy

from fmnist_jax.data.idx import FILES, load, read_idx
from fmnist_jax.errors import DataError


def encode_idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


@settings(deadline=None, max_examples=25)
@given(array=st_numpy.arrays(np.uint8, st_numpy.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)))
def test_idx_arrays_are_read_unchanged(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("idx") / "array.gz"
    path.write_bytes(gzip.compress(encode_idx(array)))
    np.testing.assert_array_equal(read_idx(path), array, strict=True)


IDX = encode_idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(HTML, id="HTML page"),
        pytest.param(gzip.compress(HTML), id="compressed HTML page"),
        pytest.param(IDX + b"\0", id="uncompressed, one byte too many"),
        pytest.param(b"", id="empty"),
        pytest.param(gzip.compress(b""), id="compressed empty content"),
        pytest.param(gzip.compress(IDX) + b"more", id="trailing bytes"),
        pytest.param(gzip.compress(IDX[:-1]), id="one byte too few"),
        pytest.param(gzip.compress(IDX + b"\0"), id="one byte too many"),
        pytest.param(gzip.compress(IDX[:10]), id="half a header"),
        pytest.param(gzip.compress(b"\0\0\x08\0"), id="no dimension"),
        pytest.param(gzip.compress(b"\0\0\x0d" + IDX[3:]), id="floats"),
        pytest.param(gzip.compress(b"\1" + IDX[1:]), id="wrong magic"),
    ],
)
def test_invalid_content_is_rejected(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="download it again") as exc_info:
        read_idx(path)
    assert str(path) in str(exc_info.value)
    assert len(str(exc_info.value).splitlines()) == 1


def test_file_too_large_for_memory_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_memory(_: Path) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", fill_memory)
    with pytest.raises(DataError, match=r"images\.gz does not fit in memory: give a smaller file"):
        read_idx(tmp_path / "images.gz")


def test_file_truncated_at_any_byte_is_rejected(tmp_path: Path) -> None:
    path, content = tmp_path / "images.gz", gzip.compress(IDX)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError):
            read_idx(path)


def write(directory: Path, *, compressed: bool) -> dict[str, np.ndarray]:
    """Writes the four files of a small data set and returns their arrays."""
    directory.mkdir()
    arrays = {
        name: np.full((3, 9, 8), index, np.uint8) if name.endswith("images") else np.arange(3, dtype=np.uint8)
        for index, name in enumerate(FILES)
    }
    for name, file in FILES.items():
        content = encode_idx(arrays[name])
        path = directory / (f"{file}.gz" if compressed else file)
        path.write_bytes(gzip.compress(content) if compressed else content)
    return arrays


@pytest.mark.parametrize("compressed", [True, False])
def test_load_reads_the_four_files_of_a_folder(compressed: bool, tmp_path: Path) -> None:
    expected = write(tmp_path / "raw", compressed=compressed)
    actual = load(tmp_path / "raw")
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, strict=True)


@pytest.mark.parametrize("name", FILES)
def test_each_missing_file_is_named(name: str, tmp_path: Path) -> None:
    write(tmp_path / "raw", compressed=True)
    (tmp_path / "raw" / f"{FILES[name]}.gz").unlink()
    with pytest.raises(
        DataError, match=rf"{FILES[name]} is missing, with and without \.gz: --data\.raw-dir"
    ) as exc_info:
        load(tmp_path / "raw")
    assert len(str(exc_info.value).splitlines()) == 1
