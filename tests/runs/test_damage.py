"""A damaged checkpoint that cannot simply be moved; `test_checkpoint` has the other ways to be damaged."""

import errno
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import pytest

from fmnist_jax.errors import CheckpointError
from fmnist_jax.runs import checkpoint, damage


def _save_two_and_damage_the_second(directory: Path) -> None:
    for step in (1, 2):
        checkpoint.save(directory, {"w": jnp.ones(3)}, step=step)
    (directory / "2" / "metrics" / "metrics").write_text("{}")


def test_a_damaged_checkpoint_is_set_aside_from_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save_two_and_damage_the_second(tmp_path / "c")

    def across(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", across)
    assert len(damage.set_aside(tmp_path / "c")) == 1
    assert checkpoint.steps(tmp_path / "c") == [1]
    assert (tmp_path / "damaged" / "2" / "metrics").is_dir()


def test_a_damaged_checkpoint_that_cannot_be_moved_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save_two_and_damage_the_second(tmp_path / "c")

    def deny(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(shutil, "move", deny)
    with pytest.raises(CheckpointError, match=r"2 .* is damaged .*; it cannot be moved to .* Read-only file system"):
        damage.set_aside(tmp_path / "c")
