"""The trial of a directory for checkpoints: with unusual names, and without leaving anything there."""

import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.errors import CheckpointError
from fmnist_jax.runs import checkpoint, probe


@pytest.mark.parametrize("name", ["a*b", "what?", "{x,y}"])
def test_path_with_characters_of_patterns_is_usable(tmp_path: Path, name: str) -> None:
    directory, values = tmp_path / name / "checkpoints", {"w": jnp.arange(3)}
    probe.refuse_unusable(directory)
    assert not list(tmp_path.rglob(".probe*"))
    checkpoint.save(directory, values, step=1)
    restored = checkpoint.restore(directory, 1, like=jax.tree.map(jnp.zeros_like, values))
    np.testing.assert_array_equal(restored["w"], values["w"])


def test_path_that_orbax_reads_as_a_glob_pattern_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"r\[0\] cannot be read back"):
        probe.refuse_unusable(tmp_path / "r[0]" / "checkpoints")
    assert list(tmp_path.iterdir()) == []


def test_probe_of_a_killed_process_is_removed_but_not_one_in_progress(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (".probe-0123abcd", ".probe-4567cdef", ".probe-mine"))
    for folder in (old, new, other):
        (folder / "run" / "checkpoints").mkdir(parents=True)
    for folder in (old, other):
        os.utime(folder, (time.time() - 7200, time.time() - 7200))
    probe.refuse_unusable(tmp_path / "run" / "checkpoints")
    assert sorted(path.name for path in tmp_path.iterdir()) == [new.name, other.name]
