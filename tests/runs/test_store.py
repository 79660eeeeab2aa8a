"""Round trips through Orbax, and later changes that are reported as damage."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from fmnist_jax.errors import CheckpointError
from fmnist_jax.runs import checkpoint, manifest, store
from fmnist_jax.runs.leaves import Snapshot

_SAVED = Snapshot({"kernel": np.arange(6.0).reshape(2, 3), "key": np.array([1, 2], np.uint32)}, {"key": "threefry2x32"})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    manager = store.open_manager(tmp_path / "c")
    store.start_saving(manager, 4, _SAVED, manifest.make_manifest(_SAVED.leaves, _SAVED.keys, 4, 0.5, {"seed": 1}))
    manager.close()
    return tmp_path / "c"


@pytest.mark.parametrize("read", [store.read, store.read_back])
def test_leaves_keys_and_manifest_round_trip_through_orbax(directory: Path, read: Callable[[Path], Snapshot]) -> None:
    restored = read(directory / "4")
    assert restored.keys == _SAVED.keys
    assert restored.leaves.keys() == _SAVED.leaves.keys()
    for name, leaf in restored.leaves.items():
        np.testing.assert_array_equal(leaf, _SAVED.leaves[name], strict=True)
    assert store.read_manifest(directory / "4")["origin"] == {"seed": 1}


def test_checkpoint_moved_to_another_step_is_reported_as_damaged(directory: Path) -> None:
    (directory / "4").rename(directory / "5")
    for read in (store.read, store.read_back):
        with pytest.raises(CheckpointError, match=r"checkpoint 5 in .* is damaged \(its step or metrics"):
            read(directory / "5")


def test_checkpoint_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot use .* choose another --run\.dir"):
        store.open_manager(tmp_path / "file" / "c")


def _save_steps(directory: Path, steps: Sequence[int]) -> None:
    manager = store.open_manager(directory)
    for step in steps:
        described = manifest.make_manifest(_SAVED.leaves, _SAVED.keys, step, 0.5, {})
        store.start_saving(manager, step, _SAVED, described)
        manager.wait_until_finished()
    store.close_manager(manager)


def test_replaced_checkpoint_is_moved_away_whole_before_its_files_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "remove_deleted", lambda _: None)  # as if the process were killed before
    _save_steps(tmp_path / "c", [1, 2, 3, 4])
    assert checkpoint.steps(tmp_path / "c") == [3, 4]
    assert {path.name for path in (tmp_path / "c" / ".deleted").iterdir()} == {"1", "2"}
    assert store.read(tmp_path / "c" / ".deleted" / "1").leaves.keys() == _SAVED.leaves.keys()


def test_checkpoints_that_a_killed_process_was_deleting_are_removed(tmp_path: Path) -> None:
    half_deleted = tmp_path / "c" / ".deleted" / "2"
    half_deleted.mkdir(parents=True)
    (half_deleted / "left").touch()
    _save_steps(tmp_path / "c", [2, 3, 4, 5])
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["4", "5"]
