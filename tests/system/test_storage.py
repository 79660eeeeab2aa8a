"""Atomic writes, and paths that cannot be written to, which are refused without leaving anything behind."""

import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import pytest
from matplotlib.figure import Figure
from PIL import Image

from fmnist_jax.errors import DataError, FmnistError
from fmnist_jax.system import storage
from fmnist_jax.system.storage import (
    check_writable,
    directory_for_files,
    remove_unfinished,
    write_atomically,
    write_text,
)


def test_check_writable_accepts_a_creatable_path_without_creating_it(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", "--run.dir")
    assert list(tmp_path.iterdir()) == []


def test_check_writable_names_a_file_in_the_way_and_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match=r"file is a file.*--data\.dir"):
            check_writable(path, "--data.dir", DataError)


def test_check_writable_follows_links_and_names_a_dangling_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for path in (tmp_path / "link", tmp_path / "link" / "run"):
        with pytest.raises(FmnistError, match=r"link is a symbolic link to .*target, which does not exist: create it"):
            check_writable(path, "--run.dir")
    (tmp_path / "target").mkdir()
    check_writable(tmp_path / "link" / "run", "--run.dir")


def test_check_writable_refuses_a_directory_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the answer of the operating system is mocked.
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(FmnistError, match="cannot be written: change its permissions or choose"):
        check_writable(tmp_path, "--run.dir")
    owner = re.escape(tmp_path.owner())
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(FmnistError, match=f"cannot be written, owned by {owner}: change its permissions"):
        check_writable(tmp_path, "--run.dir")


def test_write_text_replaces_a_file_and_leaves_no_temporary_files(tmp_path: Path) -> None:
    for text in ("old", "naïve"):
        write_text(tmp_path / "a.txt", text)
    assert (tmp_path / "a.txt").read_bytes() == "naïve".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_failed_write_keeps_the_old_file_and_leaves_no_temporary_files(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(FmnistError, match=r"cannot write .*a\.txt \(No space left on device\): free space"):
        write_atomically(tmp_path / "a.txt", fail)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_interrupted_write_leaves_nothing_and_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    def interrupt(file: BinaryIO) -> None:
        file.write(b"half of the ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.txt", interrupt)
    assert list(tmp_path.iterdir()) == []
    # A kill leaves no time to remove the temporary file.
    write_atomically(tmp_path / "a.txt", lambda file: shutil.copy(file.name, tmp_path / f"b{Path(file.name).name}"))
    (tmp_path / "essay.unfinished").touch()  # somebody's own
    remove_unfinished(tmp_path)
    remove_unfinished(tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "essay.unfinished"]


def test_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "secret", "old")
    (tmp_path / "secret").chmod(0o600)
    write_text(tmp_path / "secret", "new")
    assert ((tmp_path / "secret").read_text(), (tmp_path / "secret").stat().st_mode & 0o777) == ("new", 0o600)


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "a" * 236 + ".csv"])
def test_file_with_the_longest_possible_name_is_written(name: str, tmp_path: Path) -> None:
    write_text(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(FmnistError, match=r"cannot write .* \(File name too long\): fix that and start again$"):
        write_text(tmp_path / f"{name}aaaaaaaaaaaaaaaaaaaa", "text")


def test_failed_write_to_a_path_that_has_gone_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    def fail(_: BinaryIO) -> None:
        shutil.rmtree(tmp_path / "a")
        (tmp_path / "a").touch()
        raise OSError(5, "Input/output error")

    with pytest.raises(FmnistError, match=r"\(Input/output error\): check the disk or the network drive and start"):
        write_atomically(tmp_path / "a" / "b", fail)


def test_last_of_two_concurrent_writes_wins_completely(tmp_path: Path) -> None:
    def write_with_nested_write(file: BinaryIO) -> None:
        file.write(b"fir")
        write_text(tmp_path / "a.txt", "second")
        assert (tmp_path / "a.txt").read_text() == "second"
        file.write(b"st")

    write_atomically(tmp_path / "a.txt", write_with_nested_write)
    assert (tmp_path / "a.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_numbered_appends_numbers_from_two_on_to_the_whole_name() -> None:
    assert list(islice(storage.numbered(Path("runs/fast.old")), 3)) == [
        *(Path("runs/fast.old"), Path("runs/fast.old-2"), Path("runs/fast.old-3"))
    ]


def test_write_text_escapes_lone_surrogates(tmp_path: Path) -> None:
    write_text(tmp_path / "page", "caf\udce9 é")
    assert (tmp_path / "page").read_text() == "caf\\udce9 é"


@pytest.mark.parametrize("written", [[], ["a/whole"], ["a/b/whole"]])
@pytest.mark.parametrize("error", [FmnistError("the disk is full"), KeyboardInterrupt()])
def test_directory_for_files_removes_empty_new_directories_if_its_block_fails(
    written: list[str], error: BaseException, tmp_path: Path
) -> None:
    def fill() -> None:
        with directory_for_files(tmp_path / "there" / "a" / "b"):
            for name in written:
                (tmp_path / "there" / name).touch()
            raise error

    (tmp_path / "there").mkdir()
    with pytest.raises(type(error)):
        fill()
    remaining = {path.relative_to(tmp_path / "there").as_posix() for path in tmp_path.rglob("there/**/*")}
    assert remaining == {parent.as_posix() for name in written for parent in (Path(name), *Path(name).parents)} - {"."}


def test_directory_for_files_keeps_existing_and_successful_directories(tmp_path: Path) -> None:
    for _ in range(2):
        with directory_for_files(tmp_path / "a" / "b"):
            pass
    with pytest.raises(FmnistError, match="full"), directory_for_files(tmp_path / "a" / "b"):
        raise FmnistError("the disk is full")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FmnistError, match=r"cannot write .*file/b"), directory_for_files(tmp_path / "file" / "b"):
        pytest.fail("its block ran")


def test_write_text_follows_symbolic_links_and_writes_into_named_pipes(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    storage.write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    storage.check_file(pipe, "--csv")
    with ThreadPoolExecutor(1) as readers:
        reading = readers.submit(pipe.read_text)
        storage.write_text(pipe, "rows")
        assert reading.result(timeout=20) == "rows"
    assert pipe.is_fifo()
    assert {path.name for path in tmp_path.iterdir()} == {"real.txt", "link.txt", "pipe"}


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full, which Linux has")
def test_writing_to_a_full_device_raises_and_keeps_the_device() -> None:
    with pytest.raises(FmnistError, match="cannot write /dev/full"):
        storage.write_text(Path("/dev/full"), "rows")
    assert Path("/dev/full").is_char_device()


def test_stale_files_and_folders_that_match_are_removed(tmp_path: Path) -> None:
    hours_ago = time.time() - 7200
    for name in ("old.tmp", "new.tmp", "old.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.tmp" / "inner").mkdir(parents=True)
    for name in ("old.tmp", "old.txt", "folder.tmp"):
        os.utime(tmp_path / name, (hours_ago, hours_ago))
    storage.remove_stale(tmp_path, "*.tmp")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.tmp", "old.txt"]
    storage.remove_stale(tmp_path / "nowhere", "*")


def test_next_write_removes_what_a_kill_has_left_of_the_same_file(tmp_path: Path) -> None:
    left, of_another = tmp_path / f"a[1].txt.{'0a' * 8}.unfinished", tmp_path / f"a1.txt.{'0a' * 8}.unfinished"
    for path in (left, of_another):
        path.touch()
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    storage.write_text(tmp_path / "a[1].txt", "new")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a[1].txt", of_another])


def test_own_figures_are_told_from_other_pictures(tmp_path: Path) -> None:
    figure = Figure(figsize=(1, 1))
    storage.write_figure(tmp_path / "own.PNG", figure)
    figure.savefig(tmp_path / "other.png")
    Image.new("L", (9, 9)).save(tmp_path / "photo.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    found = {path.name for path in tmp_path.iterdir() if storage.is_own_figure(path)}
    assert found == {"own.PNG"}
    assert not storage.is_own_figure(tmp_path / "nowhere.png")
