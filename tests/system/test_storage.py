"""Files are written whole, and places that cannot be written to are refused without a trace."""

from pathlib import Path
from typing import BinaryIO

import pytest

from fmnist_jax.errors import DataError, FmnistError
from fmnist_jax.system.storage import check_writable, write_text, write_whole


def test_a_place_that_can_be_made_passes_and_is_not_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", "--run.dir")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named_with_the_flag_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match=r"file is a file.*--data\.dir"):
            check_writable(path, "--data.dir", DataError)


def test_a_directory_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the answer of the operating system is stood in for.
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(FmnistError, match="cannot be written"):
        check_writable(tmp_path, "--run.dir")


def test_a_file_is_replaced_and_no_other_left_behind(tmp_path: Path) -> None:
    for text in ("old", "naïve"):
        write_text(tmp_path / "a.txt", text)
    assert (tmp_path / "a.txt").read_bytes() == "naïve".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_write_that_fails_halfway_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(FmnistError, match=r"cannot write .*a\.txt \(No space left on device\): free space"):
        write_whole(tmp_path / "a.txt", fail)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
