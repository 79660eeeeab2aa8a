"""Checkpoints: what is kept, what comes back, and what is not believed."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
from tests.faults.values import returns_alike, states

_MODEL = make_model(ModelConfig(family="plain", widths=(4,), depths=(1,), dropout=0.3))
_OPTIMIZER = make_optimizer(OptimConfig(), make_schedule(OptimConfig(), 100))

_initialized = jax.jit(partial(init_state, _MODEL, _OPTIMIZER))


@pytest.fixture
def state() -> TrainState:
    return _initialized(jax.random.key(3))


def _save(directory: Path, state: TrainState, scores: dict[int, float]) -> None:
    with checkpoint.writing(directory) as writer:
        for step, score in scores.items():
            writer.save(replace(state, step=jnp.int32(step)), score)


def test_a_state_comes_back_bit_for_bit_and_in_place(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {7: 0.5})
    restored = checkpoint.restore(tmp_path / "c", 7, like=abstract_state(_MODEL, _OPTIMIZER))
    expected = replace(state, step=jnp.int32(7))
    assert state_digest(restored) == state_digest(expected)
    assert repr(jax.tree.structure(restored)) == repr(jax.tree.structure(expected))
    assert jnp.array_equal(jax.random.bits(restored.key), jax.random.bits(state.key))


def test_what_is_saved_is_a_copy_that_a_donated_state_cannot_change(tmp_path: Path, state: TrainState) -> None:
    digest = state_digest(state)
    with checkpoint.writing(tmp_path / "c") as writer:
        writer.save(state)
        spoil = jax.jit(lambda s: replace(s, params=jax.tree.map(lambda p: p - 1e3, s.params)), donate_argnums=0)
        jax.block_until_ready(spoil(state))
    restored = checkpoint.restore(tmp_path / "c", 0, like=abstract_state(_MODEL, _OPTIMIZER))
    assert state_digest(restored) == digest


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ({1: 0.1, 2: 0.2, 3: 0.3}, [2, 3]),
        ({1: 0.9, 2: 0.2, 3: 0.3, 4: 0.4}, [1, 3, 4]),
        ({1: 0.9, 2: 0.9, 3: 0.1, 4: 0.2}, [2, 3, 4]),
        ({1: 0.9, 2: numbering.UNSCORED, 3: numbering.UNSCORED, 4: numbering.UNSCORED}, [1, 3, 4]),
        (dict.fromkeys(range(1, 5), numbering.UNSCORED), [3, 4]),
    ],
    ids=["rising", "early best", "tie", "unscored since", "never scored"],
)
def test_the_two_latest_and_the_best_are_kept(
    tmp_path: Path, state: TrainState, scores: dict[int, float], kept: list[int]
) -> None:
    _save(tmp_path / "c", state, scores)
    assert checkpoint.steps(tmp_path / "c") == kept


def test_as_many_of_the_latest_are_kept_as_is_asked_for(tmp_path: Path) -> None:
    for step in range(4):
        checkpoint.save(tmp_path / "c", {"w": jnp.ones(3)}, step=step, latest=3)
    assert checkpoint.steps(tmp_path / "c") == [1, 2, 3]
    with pytest.raises(CheckpointError, match="latest is 1: keep 2 or more, as the last may turn out to be damaged"):
        checkpoint.save(tmp_path / "c", {"w": jnp.ones(3)}, step=4, latest=1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_weights_that_are_not_finite_are_found(state: TrainState, bad: float, dtype: jnp.dtype) -> None:
    spoiled = jax.tree.map(lambda leaf: leaf.astype(dtype).at[(0,) * leaf.ndim].set(bad), state.params)
    with pytest.raises(DivergenceError, match=r"Conv_0.*not finite after step 9"):
        checkpoint.check_finite({"Conv_0": spoiled["Conv_0"]}, 9)
    checkpoint.check_finite(state.params, 9)


def test_a_changed_value_is_found_by_its_digest_though_orbax_reads_it(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {1: 0.1, 2: 0.2})
    path = tmp_path / "c" / "2" / "manifest" / "metadata"
    values = json.loads(path.read_text())
    values["val_accuracy"] = 0.99
    path.write_text(json.dumps(values))
    problems = damage.quarantine_damaged(tmp_path / "c")
    assert len(problems) == 1
    assert "does not match its digest" in problems[0]
    assert checkpoint.steps(tmp_path / "c") == [1]
    assert (tmp_path / "damaged" / "2").is_dir()


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000])
def test_a_manifest_that_cannot_be_read_is_named_with_its_step(tmp_path: Path, state: TrainState, text: str) -> None:
    _save(tmp_path / "c", state, {1: 0.1})
    (tmp_path / "c" / "1" / "manifest" / "metadata").write_text(text)
    with pytest.raises(CheckpointError, match=r"checkpoint 1 in .* has no readable manifest"):
        checkpoint.read_manifest(tmp_path / "c", 1)


def test_nothing_is_moved_when_no_checkpoint_can_be_believed(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {1: 0.1})
    (tmp_path / "c" / "1" / "metrics" / "metrics").write_text("{}")
    with pytest.raises(CheckpointError, match="no other is left"):
        damage.quarantine_damaged(tmp_path / "c")
    assert checkpoint.steps(tmp_path / "c") == [1]


def test_believable_checkpoints_are_left_alone(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {1: 0.1, 2: 0.2})
    assert damage.quarantine_damaged(tmp_path / "c") == []
    assert damage.quarantine_damaged(tmp_path / "none") == []
    assert checkpoint.steps(tmp_path / "c") == [1, 2]


def test_a_checkpoint_of_another_model_is_refused_and_not_called_damaged(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {1: 0.1})
    other = make_model(ModelConfig(family="plain", widths=(5,), depths=(1,), dropout=0.3))
    with pytest.raises(CheckpointError, match="a different model or optimiser"):
        checkpoint.restore(tmp_path / "c", 1, like=abstract_state(other, _OPTIMIZER))


def test_the_digest_sees_every_leaf(state: TrainState) -> None:
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


class _Ensemble(NamedTuple):
    step: jax.Array
    weights: jax.Array


@pytest.mark.parametrize("name", states())
def test_any_pytree_comes_back_bit_for_bit(name: str) -> None:
    assert returns_alike(states()[name])


def test_an_ensemble_of_states_is_saved_under_the_step_that_all_have_reached(tmp_path: Path) -> None:
    ensemble = jax.vmap(_initialized)(jax.random.split(jax.random.key(0), 3))
    checkpoint.save(tmp_path / "c", ensemble)
    restored = checkpoint.restore(tmp_path / "c", 0, like=ensemble)
    assert state_digest(restored) == state_digest(ensemble)
    apart = _Ensemble(jnp.arange(3), jnp.ones((3, 2)))
    for without in (apart, {"first": apart}):
        with pytest.raises(CheckpointError, match=r"no single step .* step="):
            checkpoint.save(tmp_path / "d", without)
    checkpoint.save(tmp_path / "d", {"first": apart, "second": apart}, step=8)
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
def test_the_first_leaf_that_differs_is_named_with_both_shapes(tmp_path: Path, like: Any, words: list[str]) -> None:
    checkpoint.save(tmp_path / "c", {"a": jnp.ones(2)}, step=1)
    with pytest.raises(CheckpointError) as refusal:
        checkpoint.restore(tmp_path / "c", 1, like=like)
    assert all(word in str(refusal.value) for word in words)


def test_a_state_is_restored_to_where_its_like_lies(tmp_path: Path) -> None:
    mesh = jax.make_mesh((2,), ("data",))
    along = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    tree = {"rows": jax.device_put(jnp.arange(8.0), along), "key": jax.device_put(jax.random.key(1), whole)}
    checkpoint.save(tmp_path / "c", tree, step=1)
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree)
    for like in (tree, abstract):
        restored = checkpoint.restore(tmp_path / "c", 1, like=like)
        assert restored["rows"].sharding == along
        assert restored["key"].sharding == whole
        assert state_digest(restored) == state_digest(tree)


def test_a_step_is_not_saved_twice(tmp_path: Path, state: TrainState) -> None:
    checkpoint.save(tmp_path / "c", state)
    with pytest.raises(CheckpointError, match="already has a checkpoint 0"):
        checkpoint.save(tmp_path / "c", state)
    assert damage.quarantine_damaged(tmp_path / "c") == []


def test_a_script_that_ends_has_saved(tmp_path: Path) -> None:
    program = (
        "import sys, jax.numpy as jnp; from pathlib import Path; import fmnist_jax as fj\n"
        "fj.save(Path(sys.argv[1]), {'w': jnp.arange(4.0)}, step=5)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1])}
    command = [sys.executable, "-c", program, str(tmp_path / "c")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["5"]
    restored = checkpoint.restore(tmp_path / "c", 5, like={"w": jnp.zeros(4)})
    np.testing.assert_array_equal(restored["w"], np.arange(4.0))


def test_what_was_written_wrong_is_noticed_before_the_next_save_but_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_saving = store.start_saving

    def spoil(manager: Any, step: int, saved: Snapshot, described: Any) -> None:
        leaves = {name: leaf + (step == 2) for name, leaf in saved.leaves.items()}
        start_saving(manager, step, saved._replace(leaves=leaves), described)

    monkeypatch.setattr(store, "start_saving", spoil)
    with checkpoint.writing(tmp_path / "c") as writer:
        for step in (1, 2, 3):
            writer.save({"w": jnp.ones(3)}, step=step)
        with pytest.raises(CheckpointError, match=r"checkpoint 2 .* does not match .* though it was written"):
            writer.save({"w": jnp.ones(3)}, step=4)
    with pytest.raises(CheckpointError, match="though it was written"):
        checkpoint.save(tmp_path / "d", {"w": jnp.ones(3)}, step=2)


@pytest.mark.parametrize("name", ["r[0]", "a*b", "what?", "{x,y}"])
def test_a_path_is_usable_or_refused_before_anything_is_lost(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name / "checkpoints"
    try:
        checkpoint.refuse_unusable(directory)
    except CheckpointError as error:
        assert "cannot be read back: choose another --run.dir" in str(error)  # noqa: PT017 - either is right
    else:
        checkpoint.save(directory, {"w": jnp.arange(3)}, step=1)
        checkpoint.restore(directory, 1, like={"w": jnp.zeros(3, jnp.int32)})
    assert not list(tmp_path.rglob(".probe*"))


def test_a_path_that_orbax_takes_for_a_pattern_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"r\[0\] cannot be read back"):
        checkpoint.refuse_unusable(tmp_path / "r[0]" / "checkpoints")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", deny)
    with pytest.raises(CheckpointError, match=r"c cannot be read \(Permission denied\): give yourself permission"):
        checkpoint.steps(tmp_path / "c")


def test_numbers_of_any_kind_are_recorded_and_nan_is_no_score(tmp_path: Path) -> None:
    values = {"w": jnp.arange(3.0)}
    scores = [np.float32(0.5), jnp.float32(jnp.nan), 0.25, 0.25]
    with checkpoint.writing(tmp_path / "c") as writer:
        for step, score in enumerate(scores):
            writer.save(values, score, step=jnp.int32(step))
    assert checkpoint.steps(tmp_path / "c") == [0, 2, 3]
    np.testing.assert_array_equal(checkpoint.restore(tmp_path / "c", np.int64(0), like=values)["w"], values["w"])


def test_a_step_below_those_that_are_there_is_refused_before_anything_is_deleted(tmp_path: Path) -> None:
    values = {"w": jnp.arange(3.0)}
    for step in (10, 20):
        checkpoint.save(tmp_path / "c", values, step=step)
    with pytest.raises(CheckpointError, match="has a checkpoint 20, later than 5: go on from restore_latest"):
        checkpoint.save(tmp_path / "c", values, step=5)
    assert checkpoint.steps(tmp_path / "c") == [10, 20]


def test_a_checkpoint_that_does_not_exist_is_not_called_damaged(tmp_path: Path) -> None:
    values = {"w": jnp.arange(3.0)}
    with pytest.raises(CheckpointError, match=r"has no checkpoint 999: it has none$"):
        checkpoint.restore(tmp_path / "c", 999, like=values)
    checkpoint.save(tmp_path / "c", values, step=1)
    with pytest.raises(CheckpointError, match=r"has no checkpoint 999: it has 1$"):
        checkpoint.restore(tmp_path / "c", 999, like=values)
