"""Checkpoints: retention, round trips, and detection of damaged or mismatched ones."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fmnist_jax
from fmnist_jax.config.schema import ModelConfig, OptimConfig
from fmnist_jax.errors import CheckpointError, DivergenceError
from fmnist_jax.functional.model import make_model
from fmnist_jax.functional.optim import make_optimizer, make_schedule
from fmnist_jax.functional.state import TrainState, abstract_state, init_state
from fmnist_jax.runs import checkpoint, damage, numbering, store
from fmnist_jax.runs.leaves import Snapshot, state_digest
from tests.faults.values import round_trips, unusual_states

_MODEL = make_model(ModelConfig(family="plain", widths=(4,), depths=(1,), dropout=0.3))
_OPTIMIZER = make_optimizer(OptimConfig(), make_schedule(OptimConfig(), 100))

_init_state = jax.jit(partial(init_state, _MODEL, _OPTIMIZER))


@pytest.fixture
def state() -> TrainState:
    return _init_state(jax.random.key(3))


def _save(directory: Path, state: TrainState, scores: dict[int, float]) -> None:
    with checkpoint.writing(directory) as writer:
        for step, score in scores.items():
            writer.save(replace(state, step=jnp.int32(step)), score)


def test_restored_state_is_bitwise_equal_with_the_same_tree_structure(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {7: 0.5})
    restored = checkpoint.restore(tmp_path / "c", 7, like=abstract_state(_MODEL, _OPTIMIZER))
    expected = replace(state, step=jnp.int32(7))
    assert state_digest(restored) == state_digest(expected)
    assert repr(jax.tree.structure(restored)) == repr(jax.tree.structure(expected))
    assert jnp.array_equal(jax.random.bits(restored.key), jax.random.bits(state.key))


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), r"free space \(df -h\) or files \(df -i\) there"),
        (OSError(errno.EROFS, "Read-only file system"), "mount it for writing"),
        (OSError(errno.ENOTDIR, "Not a directory"), "fix that"),
        (
            ValueError("Error writing: No space left on device [os_error_code='28'] [spec]"),
            r"free space \(df -h\) or files .*",
        ),
        (
            ValueError("Failed to open: Too many open files [os_error_code='24']"),
            r"allow more open files \(ulimit -n\)",
        ),
        (ValueError("RESOURCE_EXHAUSTED: Error writing"), "free space there"),
    ],
)
def test_failed_save_names_its_cause_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(store, "start_saving", fail)
    expected = rf"cannot write a checkpoint into .*: {remedy} and start again with the same --run\.dir; earlier"
    with pytest.raises(CheckpointError, match=expected):
        checkpoint.save(tmp_path / "c", {"values": np.ones(3)}, step=1)


def test_saved_copy_is_unaffected_by_donating_the_state(tmp_path: Path, state: TrainState) -> None:
    digest = state_digest(state)
    with checkpoint.writing(tmp_path / "c") as writer:
        writer.save(state)
        shift_params = jax.jit(lambda s: replace(s, params=jax.tree.map(lambda p: p - 1e3, s.params)), donate_argnums=0)
        jax.block_until_ready(shift_params(state))
    restored = checkpoint.restore(tmp_path / "c", 0, like=abstract_state(_MODEL, _OPTIMIZER))
    assert state_digest(restored) == digest


@pytest.mark.parametrize(
    ("scores", "expected_steps"),
    [
        ({1: 0.1, 2: 0.2, 3: 0.3}, [2, 3]),
        ({1: 0.9, 2: 0.2, 3: 0.3, 4: 0.4}, [1, 3, 4]),
        ({1: 0.9, 2: 0.9, 3: 0.1, 4: 0.2}, [2, 3, 4]),
        ({1: 0.9, 2: numbering.UNSCORED, 3: numbering.UNSCORED, 4: numbering.UNSCORED}, [1, 3, 4]),
        (dict.fromkeys(range(1, 5), numbering.UNSCORED), [3, 4]),
    ],
    ids=["rising", "early best", "tie", "unscored since", "never scored"],
)
def test_two_latest_and_best_checkpoints_are_kept(
    tmp_path: Path, state: TrainState, scores: dict[int, float], expected_steps: list[int]
) -> None:
    _save(tmp_path / "c", state, scores)
    assert checkpoint.steps(tmp_path / "c") == expected_steps


def test_latest_sets_how_many_checkpoints_are_kept_and_must_be_at_least_two(tmp_path: Path) -> None:
    for step in range(4):
        checkpoint.save(tmp_path / "c", {"w": jnp.ones(3)}, step=step, latest=3)
    assert checkpoint.steps(tmp_path / "c") == [1, 2, 3]
    with pytest.raises(CheckpointError, match="latest is 1: keep 2 or more, as the last may turn out to be damaged"):
        checkpoint.save(tmp_path / "c", {"w": jnp.ones(3)}, step=4, latest=1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_check_finite_names_module_and_step_of_nonfinite_weights(
    state: TrainState, bad: float, dtype: jnp.dtype
) -> None:
    nonfinite = jax.tree.map(lambda leaf: leaf.astype(dtype).at[(0,) * leaf.ndim].set(bad), state.params)
    with pytest.raises(DivergenceError, match=r"Conv_0.*not finite after step 9"):
        checkpoint.check_finite({"Conv_0": nonfinite["Conv_0"]}, 9)
    checkpoint.check_finite(state.params, 9)


def test_checkpoint_with_changed_manifest_value_is_quarantined_by_its_digest(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {1: 0.1, 2: 0.2})
    path = tmp_path / "c" / "2" / "manifest" / "metadata"
    metadata = json.loads(path.read_text())
    metadata["val_accuracy"] = 0.99
    path.write_text(json.dumps(metadata))
    problems = damage.quarantine_damaged(tmp_path / "c")
    assert len(problems) == 1
    assert "does not match its digest" in problems[0]
    assert checkpoint.steps(tmp_path / "c") == [1]
    assert (tmp_path / "damaged" / "2").is_dir()


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000])
def test_unreadable_manifest_error_names_the_step(tmp_path: Path, state: TrainState, text: str) -> None:
    _save(tmp_path / "c", state, {1: 0.1})
    (tmp_path / "c" / "1" / "manifest" / "metadata").write_text(text)
    with pytest.raises(CheckpointError, match=r"checkpoint 1 in .* has no readable manifest"):
        checkpoint.read_manifest(tmp_path / "c", 1)


def test_nothing_is_quarantined_when_no_intact_checkpoint_is_left(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {1: 0.1})
    (tmp_path / "c" / "1" / "metrics" / "metrics").write_text("{}")
    with pytest.raises(CheckpointError, match="no other is left"):
        damage.quarantine_damaged(tmp_path / "c")
    assert checkpoint.steps(tmp_path / "c") == [1]


def test_quarantine_leaves_intact_checkpoints_and_missing_directories_alone(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {1: 0.1, 2: 0.2})
    assert damage.quarantine_damaged(tmp_path / "c") == []
    assert damage.quarantine_damaged(tmp_path / "none") == []
    assert checkpoint.steps(tmp_path / "c") == [1, 2]


def test_checkpoint_of_another_model_is_refused_as_a_different_model(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {1: 0.1})
    other_model = make_model(ModelConfig(family="plain", widths=(5,), depths=(1,), dropout=0.3))
    with pytest.raises(CheckpointError, match="a different model or optimiser"):
        checkpoint.restore(tmp_path / "c", 1, like=abstract_state(other_model, _OPTIMIZER))


def test_state_digest_changes_with_a_bit_flip_in_any_leaf(state: TrainState) -> None:
    leaves, structure = jax.tree.flatten(state)
    digests = {state_digest(state)}
    for index, leaf in enumerate(leaves):
        data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        bits = np.array(data)
        bits.reshape(-1).view(np.uint8)[0] ^= 1
        changed = jnp.asarray(bits)
        changed = jax.random.wrap_key_data(changed) if data is not leaf else changed
        digests.add(state_digest(jax.tree.unflatten(structure, [*leaves[:index], changed, *leaves[index + 1 :]])))
    assert len(digests) == len(leaves) + 1


class _StackedState(NamedTuple):
    step: jax.Array
    weights: jax.Array


@pytest.mark.parametrize("name", unusual_states())
def test_any_pytree_round_trips_bitwise(name: str) -> None:
    assert round_trips(unusual_states()[name])


def test_ensemble_is_saved_under_its_common_step_or_else_an_explicit_one(tmp_path: Path) -> None:
    ensemble = jax.vmap(_init_state)(jax.random.split(jax.random.key(0), 3))
    checkpoint.save(tmp_path / "c", ensemble)
    restored = checkpoint.restore(tmp_path / "c", 0, like=ensemble)
    assert state_digest(restored) == state_digest(ensemble)
    mixed_steps = _StackedState(jnp.arange(3), jnp.ones((3, 2)))
    for tree in (mixed_steps, {"first": mixed_steps}):
        with pytest.raises(CheckpointError, match=r"no single step .* step="):
            checkpoint.save(tmp_path / "d", tree)
    checkpoint.save(tmp_path / "d", {"first": mixed_steps, "second": mixed_steps}, step=8)
    assert checkpoint.steps(tmp_path / "d") == [8]


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ({"a": jnp.ones(3)}, ["a is float32[2]", "float32[3] is expected"]),
        ({"a": jnp.ones(2, jnp.int32)}, ["a is float32[2]", "int32[2] is expected"]),
        ({"a": jax.random.key(0)}, ["a is float32[2]", "key<fry>[] is expected"]),
        ({"a": jnp.ones(2), "b": jnp.ones(2)}, ["it has no b"]),
        ({}, ["it has a, which is not expected"]),
    ],
)
def test_restore_error_names_first_mismatched_leaf_with_both_shapes(
    tmp_path: Path, like: Any, words: list[str]
) -> None:
    checkpoint.save(tmp_path / "c", {"a": jnp.ones(2)}, step=1)
    with pytest.raises(CheckpointError) as exc_info:
        checkpoint.restore(tmp_path / "c", 1, like=like)
    assert all(word in str(exc_info.value) for word in words)


def test_restore_uses_the_sharding_of_like(tmp_path: Path) -> None:
    mesh = jax.make_mesh((2,), ("data",))
    sharded = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    tree = {"rows": jax.device_put(jnp.arange(8.0), sharded), "key": jax.device_put(jax.random.key(1), replicated)}
    checkpoint.save(tmp_path / "c", tree, step=1)
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree)
    for like in (tree, abstract):
        restored = checkpoint.restore(tmp_path / "c", 1, like=like)
        assert restored["rows"].sharding == sharded
        assert restored["key"].sharding == replicated
        assert state_digest(restored) == state_digest(tree)


def test_saving_an_existing_step_is_refused_and_leaves_it_intact(tmp_path: Path, state: TrainState) -> None:
    checkpoint.save(tmp_path / "c", state)
    with pytest.raises(CheckpointError, match="already has a checkpoint 0"):
        checkpoint.save(tmp_path / "c", state)
    assert damage.quarantine_damaged(tmp_path / "c") == []


def test_save_in_a_script_is_complete_when_the_script_exits(tmp_path: Path) -> None:
    program = (
        "import sys, jax.numpy as jnp; from pathlib import Path; import fmnist_jax as fj\n"
        "fj.save(Path(sys.argv[1]), {'w': jnp.arange(4.0)}, step=5)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1])}
    command = [sys.executable, "-c", program, str(tmp_path / "c")]
    completed = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (completed.returncode, completed.stderr) == (0, "")
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["5"]
    restored = checkpoint.restore(tmp_path / "c", 5, like={"w": jnp.zeros(4)})
    np.testing.assert_array_equal(restored["w"], np.arange(4.0))


def test_corrupted_write_is_detected_by_the_second_save_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_saving = store.start_saving

    def corrupt_step_2(manager: Any, step: int, saved: Snapshot, manifest: Any) -> None:
        leaves = {name: leaf + (step == 2) for name, leaf in saved.leaves.items()}
        start_saving(manager, step, saved._replace(leaves=leaves), manifest)

    monkeypatch.setattr(store, "start_saving", corrupt_step_2)
    with checkpoint.writing(tmp_path / "c") as writer:
        for step in (1, 2, 3):
            writer.save({"w": jnp.ones(3)}, step=step)
        with pytest.raises(CheckpointError, match=r"checkpoint 2 .* does not match .* though it was written"):
            writer.save({"w": jnp.ones(3)}, step=4)
    with pytest.raises(CheckpointError, match="though it was written"):
        checkpoint.save(tmp_path / "d", {"w": jnp.ones(3)}, step=2)


def test_unreadable_checkpoint_directory_raises_checkpoint_error_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", deny)
    with pytest.raises(CheckpointError, match=r"c cannot be read \(Permission denied\): give yourself permission"):
        checkpoint.steps(tmp_path / "c")


def test_numpy_and_jax_steps_and_scores_are_recorded_and_nan_is_unscored(tmp_path: Path) -> None:
    values = {"w": jnp.arange(3.0)}
    scores: list[SupportsFloat] = [np.float32(0.5), jnp.float32(jnp.nan), 0.25, 0.25]
    with checkpoint.writing(tmp_path / "c") as writer:
        for step, score in enumerate(scores):
            writer.save(values, score, step=jnp.int32(step))
    assert checkpoint.steps(tmp_path / "c") == [0, 2, 3]
    np.testing.assert_array_equal(checkpoint.restore(tmp_path / "c", np.int64(0), like=values)["w"], values["w"])


def test_saving_an_earlier_step_is_refused_without_deleting_any(tmp_path: Path) -> None:
    values = {"w": jnp.arange(3.0)}
    for step in (10, 20):
        checkpoint.save(tmp_path / "c", values, step=step)
    with pytest.raises(CheckpointError, match="has a checkpoint 20, later than 5: go on from restore_latest"):
        checkpoint.save(tmp_path / "c", values, step=5)
    assert checkpoint.steps(tmp_path / "c") == [10, 20]


def test_missing_checkpoint_error_lists_the_existing_steps(tmp_path: Path) -> None:
    values = {"w": jnp.arange(3.0)}
    with pytest.raises(CheckpointError, match=r"has no checkpoint 999: it has none$"):
        checkpoint.restore(tmp_path / "c", 999, like=values)
    checkpoint.save(tmp_path / "c", values, step=1)
    with pytest.raises(CheckpointError, match=r"has no checkpoint 999: it has 1$"):
        checkpoint.restore(tmp_path / "c", 999, like=values)
