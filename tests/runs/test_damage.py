"""Damaged checkpoints: quarantined whatever the damage, even where they cannot simply be renamed."""

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


def _delete_payload(path: Path) -> None:
    for file in path.glob("state/**/d/*"):
        file.unlink()


def _delete_arrays(path: Path) -> None:
    shutil.rmtree(path / "state")


def _truncate_manifest(path: Path) -> None:
    harness.damage(path / "manifest" / "metadata", "truncated")


def _copy_manifest_of_step_1(path: Path) -> None:
    shutil.copy(path.parent / "1" / "manifest" / "metadata", path / "manifest" / "metadata")


def _flip_manifest_bit(path: Path) -> None:
    harness.damage(path / "manifest" / "metadata", "flipped")


@pytest.mark.parametrize(
    "corrupt",
    [
        harness.corrupt_payload,
        _delete_payload,
        _delete_arrays,
        _truncate_manifest,
        _copy_manifest_of_step_1,
        _flip_manifest_bit,
    ],
)
def test_any_damage_quarantines_the_checkpoint_and_keeps_the_previous_one(
    tmp_path: Path, corrupt: Callable[[Path], None]
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path / "c", {"w": jnp.arange(300.0) * step, "b": jnp.ones(())}, step=step)
    corrupt(tmp_path / "c" / "2")
    (problem,) = damage.quarantine_damaged(tmp_path / "c")
    assert problem.startswith(f"checkpoint 2 in {tmp_path / 'c'} is damaged (")
    assert checkpoint.steps(tmp_path / "c") == [1]
    assert (tmp_path / "damaged" / "2").is_dir()


def _save_two_and_damage_the_second(directory: Path) -> None:
    for step in (1, 2):
        checkpoint.save(directory, {"w": jnp.ones(3)}, step=step)
    (directory / "2" / "metrics" / "metrics").write_text("{}")


def test_damaged_checkpoint_is_quarantined_across_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save_two_and_damage_the_second(tmp_path / "c")

    def raise_cross_device(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", raise_cross_device)
    assert len(damage.quarantine_damaged(tmp_path / "c")) == 1
    assert checkpoint.steps(tmp_path / "c") == [1]
    assert (tmp_path / "damaged" / "2" / "metrics").is_dir()


def test_immovable_damaged_checkpoint_raises_checkpoint_error_with_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save_two_and_damage_the_second(tmp_path / "c")

    def raise_read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(shutil, "move", raise_read_only)
    with pytest.raises(CheckpointError, match=r"2 .* is damaged .*; it cannot be moved to .* Read-only file system"):
        damage.quarantine_damaged(tmp_path / "c")


def test_restore_latest_returns_the_newest_intact_checkpoint(tmp_path: Path) -> None:
    initial = {"w": jnp.zeros(3), "count": jnp.int32(0)}
    assert damage.restore_latest(tmp_path / "c", initial) is initial
    _save_two_and_damage_the_second(tmp_path / "c")
    with pytest.raises(CheckpointError, match="it has no count"):
        damage.restore_latest(tmp_path / "c", initial)
    restored = damage.restore_latest(str(tmp_path / "c"), {"w": jnp.zeros(3)})
    np.testing.assert_array_equal(restored["w"], np.ones(3))
    assert (tmp_path / "damaged" / "2").is_dir()
    (tmp_path / "c" / "1" / "metrics" / "metrics").write_text("{}")
    with pytest.raises(CheckpointError, match="no other is left"):
        damage.restore_latest(tmp_path / "c", {"w": jnp.zeros(3)})


def test_quarantining_a_step_twice_keeps_both_copies(tmp_path: Path) -> None:
    for _ in range(2):
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        _save_two_and_damage_the_second(tmp_path / "c")
        damage.quarantine_damaged(tmp_path / "c")
    assert sorted(path.name for path in (tmp_path / "damaged").iterdir()) == ["2", "2-2"]


def test_dangling_link_in_the_quarantine_is_passed_over(tmp_path: Path) -> None:
    _save_two_and_damage_the_second(tmp_path / "c")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "2").symlink_to(tmp_path / "nowhere")
    damage.quarantine_damaged(tmp_path / "c")
    assert (tmp_path / "damaged" / "2").is_symlink()
    assert (tmp_path / "damaged" / "2-2" / "metrics").is_dir()
