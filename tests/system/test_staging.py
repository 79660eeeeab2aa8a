"""Directories that appear complete or not at all, and paths at which none can appear."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fmnist_jax.errors import FmnistError
from fmnist_jax.system.staging import atomic_directory, refuse_taken


def test_refuse_taken_rejects_occupied_paths_but_not_empty_directories(tmp_path: Path) -> None:
    refuse_taken(tmp_path, "OUT")
    refuse_taken(tmp_path / "a" / "b", "OUT")
    (tmp_path / "file").touch()
    with pytest.raises(FmnistError, match="has files in it: choose another OUT"):
        refuse_taken(tmp_path, "OUT")
    with pytest.raises(FmnistError, match="is a file"):
        refuse_taken(tmp_path / "file", "OUT")
    with (
        atomic_directory(tmp_path / "new"),
        pytest.raises(FmnistError, match=r"new\.unfinished exists, made by a process"),
    ):
        refuse_taken(tmp_path / "new", "OUT")


def test_refuse_taken_rejects_a_directory_that_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> Iterator[Path]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(FmnistError, match=r"cannot be read \(Permission denied\): choose another OUT"):
        refuse_taken(tmp_path, "OUT")


def test_refuse_taken_rejects_empty_directories_that_cannot_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, link = tmp_path / "empty", tmp_path / "link"
    empty.mkdir()
    link.symlink_to(empty)
    with pytest.raises(FmnistError, match="link is a symbolic link, which cannot be replaced: give a new directory in"):
        refuse_taken(link, "OUT")
    refuse_taken(empty, "OUT")
    monkeypatch.chdir(empty)
    with pytest.raises(FmnistError, match="is the current directory"):
        refuse_taken(Path(), "OUT")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "is_mount", lambda path: path == empty)
    with pytest.raises(FmnistError, match="empty is a mount point"):
        refuse_taken(empty, "OUT")


@pytest.mark.parametrize("exists", [True, False])
def test_atomic_directory_appears_with_all_of_its_files_at_once(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "new" / "out"
    if exists:
        path.mkdir(parents=True)
    with atomic_directory(path) as unfinished:
        (unfinished / "a").write_text("a")
        assert not exists or list(path.iterdir()) == []
        assert path.exists() == exists
    assert [item.name for item in path.iterdir()] == ["a"]
    assert [item.name for item in path.parent.iterdir()] == ["out"]


def test_atomic_directory_does_not_appear_if_its_block_fails(tmp_path: Path) -> None:
    def fail_with(error: Exception) -> None:
        with atomic_directory(tmp_path / "new" / "out") as unfinished:
            (unfinished / "a").write_text("a")
            raise error

    for error in (FmnistError("b"), OSError(28, "No space left on device")):
        with pytest.raises(FmnistError, match=r"b|cannot write .*out \(No space left"):
            fail_with(error)
        assert list(tmp_path.iterdir()) == []


def test_atomic_directory_leaves_the_unfinished_one_of_another_process_alone(tmp_path: Path) -> None:
    (tmp_path / "out.unfinished").mkdir()
    with pytest.raises(FmnistError, match=r"out\.unfinished exists"), atomic_directory(tmp_path / "out"):
        pass
    assert [item.name for item in tmp_path.iterdir()] == ["out.unfinished"]


def test_atomic_directory_interrupted_while_it_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def interrupt_afterwards(path: Path, *args: Any, **kwargs: Any) -> None:
        make(path, *args, **kwargs)
        if path.name == "out.unfinished":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupt_afterwards)
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "new" / "out"):
        pytest.fail("its block ran")
    assert list(tmp_path.iterdir()) == []
