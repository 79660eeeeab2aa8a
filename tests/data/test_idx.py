"""IDX files, against bytes written by the specification."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as st_numpy

from fmnist_jax.data.idx import FILES, load, read_idx
from fmnist_jax.errors import DataError


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


@settings(deadline=None, max_examples=25)
@given(array=st_numpy.arrays(np.uint8, st_numpy.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)))
def test_idx_files_are_read_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("idx") / "array.gz"
    path.write_bytes(gzip.compress(idx(array)))
    np.testing.assert_array_equal(read_idx(path), array, strict=True)


IDX = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(HTML, id="a page"),
        pytest.param(gzip.compress(HTML), id="a compressed page"),
        pytest.param(IDX + b"\0", id="not compressed, a byte too many"),
        pytest.param(b"", id="empty"),
        pytest.param(gzip.compress(b""), id="nothing compressed"),
        pytest.param(gzip.compress(IDX) + b"more", id="something after it"),
        pytest.param(gzip.compress(IDX[:-1]), id="a byte too few"),
        pytest.param(gzip.compress(IDX + b"\0"), id="a byte too many"),
        pytest.param(gzip.compress(IDX[:10]), id="half a header"),
        pytest.param(gzip.compress(b"\0\0\x08\0"), id="no dimension"),
        pytest.param(gzip.compress(b"\0\0\x0d" + IDX[3:]), id="floats"),
        pytest.param(gzip.compress(b"\1" + IDX[1:]), id="wrong magic"),
    ],
)
def test_other_content_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="download it again") as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_download_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "images.gz", gzip.compress(IDX)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_idx(path)


def write(directory: Path, *, compressed: bool) -> dict[str, np.ndarray]:
    """Four files of a small data set, and what they hold."""
    directory.mkdir()
    arrays = {
        name: np.full((3, 9, 8), place, np.uint8) if name.endswith("images") else np.arange(3, dtype=np.uint8)
        for place, name in enumerate(FILES)
    }
    for name, file in FILES.items():
        content = idx(arrays[name])
        path = directory / (f"{file}.gz" if compressed else file)
        path.write_bytes(gzip.compress(content) if compressed else content)
    return arrays


@pytest.mark.parametrize("compressed", [True, False])
def test_a_folder_of_four_files_is_a_data_set(compressed: bool, tmp_path: Path) -> None:
    written = write(tmp_path / "raw", compressed=compressed)
    found = load(tmp_path / "raw")
    assert found.keys() == written.keys()
    for name, array in written.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_missed_by_its_name(name: str, tmp_path: Path) -> None:
    write(tmp_path / "raw", compressed=True)
    (tmp_path / "raw" / f"{FILES[name]}.gz").unlink()
    with pytest.raises(DataError, match=rf"{FILES[name]} is missing, with and without \.gz: --data\.raw-dir") as caught:
        load(tmp_path / "raw")
    assert len(str(caught.value).splitlines()) == 1
