"""Damaged checkpoints: set aside whatever is damaged about them, and where they cannot simply be moved."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.errors import CheckpointError
from fmnist_jax.runs import checkpoint, damage
from tests.faults import harness


def _without_payload(path: Path) -> None:
    for file in path.glob("state/**/d/*"):
        file.unlink()


def _without_arrays(path: Path) -> None:
    shutil.rmtree(path / "state")


def _half_a_manifest(path: Path) -> None:
    harness.damage(path / "manifest" / "metadata", "truncated")


def _another_manifest(path: Path) -> None:
    shutil.copy(path.parent / "1" / "manifest" / "metadata", path / "manifest" / "metadata")


def _a_flipped_digest(path: Path) -> None:
    harness.damage(path / "manifest" / "metadata", "flipped")


@pytest.mark.parametrize(
    "hurt",
    [harness.riddle, _without_payload, _without_arrays, _half_a_manifest, _another_manifest, _a_flipped_digest],
)
def test_whatever_is_damaged_the_one_before_is_left(tmp_path: Path, hurt: Callable[[Path], None]) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path / "c", {"w": jnp.arange(300.0) * step, "b": jnp.ones(())}, step=step)
    hurt(tmp_path / "c" / "2")
    (problem,) = damage.quarantine_damaged(tmp_path / "c")
    assert problem.startswith(f"checkpoint 2 in {tmp_path / 'c'} is damaged (")
    assert checkpoint.steps(tmp_path / "c") == [1]
    assert (tmp_path / "damaged" / "2").is_dir()


def _save_two_and_damage_the_second(directory: Path) -> None:
    for step in (1, 2):
        checkpoint.save(directory, {"w": jnp.ones(3)}, step=step)
    (directory / "2" / "metrics" / "metrics").write_text("{}")


def test_a_damaged_checkpoint_is_set_aside_from_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save_two_and_damage_the_second(tmp_path / "c")

    def across(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", across)
    assert len(damage.quarantine_damaged(tmp_path / "c")) == 1
    assert checkpoint.steps(tmp_path / "c") == [1]
    assert (tmp_path / "damaged" / "2" / "metrics").is_dir()


def test_a_damaged_checkpoint_that_cannot_be_moved_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save_two_and_damage_the_second(tmp_path / "c")

    def deny(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(shutil, "move", deny)
    with pytest.raises(CheckpointError, match=r"2 .* is damaged .*; it cannot be moved to .* Read-only file system"):
        damage.quarantine_damaged(tmp_path / "c")


def test_a_program_goes_on_from_the_newest_checkpoint_that_can_be_believed(tmp_path: Path) -> None:
    begin = {"w": jnp.zeros(3), "count": jnp.int32(0)}
    assert damage.restore_latest(tmp_path / "c", begin) is begin
    _save_two_and_damage_the_second(tmp_path / "c")
    with pytest.raises(CheckpointError, match="it has no count"):
        damage.restore_latest(tmp_path / "c", begin)
    restored = damage.restore_latest(str(tmp_path / "c"), {"w": jnp.zeros(3)})
    np.testing.assert_array_equal(restored["w"], np.ones(3))
    assert (tmp_path / "damaged" / "2").is_dir()
    (tmp_path / "c" / "1" / "metrics" / "metrics").write_text("{}")
    with pytest.raises(CheckpointError, match="no other is left"):
        damage.restore_latest(tmp_path / "c", {"w": jnp.zeros(3)})


def test_what_is_damaged_again_lies_beside_what_was_before(tmp_path: Path) -> None:
    for _ in range(2):
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        _save_two_and_damage_the_second(tmp_path / "c")
        damage.quarantine_damaged(tmp_path / "c")
    assert sorted(path.name for path in (tmp_path / "damaged").iterdir()) == ["2", "2-2"]
