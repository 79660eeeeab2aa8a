"""Round trips through Orbax, and later changes that are reported as damage."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fmnist_jax.errors import CheckpointError
from fmnist_jax.runs import manifest, store
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
