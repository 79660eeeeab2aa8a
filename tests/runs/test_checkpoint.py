"""Checkpoints: what is kept, what comes back, and what is not believed."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.config.schema import ModelConfig, OptimConfig
from fmnist_jax.errors import CheckpointError, DivergenceError
from fmnist_jax.functional.model import make_model
from fmnist_jax.functional.optim import make_optimizer, make_schedule
from fmnist_jax.functional.state import TrainState, abstract_state, init_state
from fmnist_jax.runs import checkpoint

_MODEL = make_model(ModelConfig(family="plain", widths=(4,), depths=(1,), dropout=0.3))
_OPTIMIZER = make_optimizer(OptimConfig(), make_schedule(OptimConfig(), 100))


@pytest.fixture
def state() -> TrainState:
    return init_state(_MODEL, _OPTIMIZER, jax.random.key(3))


def _save(directory: Path, state: TrainState, scores: dict[int, float]) -> None:
    with checkpoint.writing(directory) as manager:
        for step, score in scores.items():
            checkpoint.save(manager, replace(state, step=jnp.int32(step)), score)


def test_a_state_comes_back_bit_for_bit_and_in_place(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {7: 0.5})
    restored = checkpoint.restore(tmp_path / "c", 7, like=abstract_state(_MODEL, _OPTIMIZER))
    expected = replace(state, step=jnp.int32(7))
    assert checkpoint.state_digest(restored) == checkpoint.state_digest(expected)
    assert repr(jax.tree.structure(restored)) == repr(jax.tree.structure(expected))
    assert jnp.array_equal(jax.random.bits(restored.key), jax.random.bits(state.key))


def test_what_is_saved_is_a_copy_that_a_donated_state_cannot_change(tmp_path: Path, state: TrainState) -> None:
    digest = checkpoint.state_digest(state)
    with checkpoint.writing(tmp_path / "c") as manager:
        checkpoint.save(manager, state)
        spoil = jax.jit(lambda s: replace(s, params=jax.tree.map(lambda p: p - 1e3, s.params)), donate_argnums=0)
        jax.block_until_ready(spoil(state))
    restored = checkpoint.restore(tmp_path / "c", 0, like=abstract_state(_MODEL, _OPTIMIZER))
    assert checkpoint.state_digest(restored) == digest


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ({1: 0.1, 2: 0.2, 3: 0.3}, [2, 3]),
        ({1: 0.9, 2: 0.2, 3: 0.3, 4: 0.4}, [1, 3, 4]),
        ({1: 0.9, 2: 0.9, 3: 0.1, 4: 0.2}, [2, 3, 4]),
        ({1: 0.9, 2: checkpoint.UNSCORED, 3: checkpoint.UNSCORED, 4: checkpoint.UNSCORED}, [1, 3, 4]),
        (dict.fromkeys(range(1, 5), checkpoint.UNSCORED), [3, 4]),
    ],
    ids=["rising", "early best", "tie", "unscored since", "never scored"],
)
def test_the_two_latest_and_the_best_are_kept(
    tmp_path: Path, state: TrainState, scores: dict[int, float], kept: list[int]
) -> None:
    _save(tmp_path / "c", state, scores)
    assert checkpoint.steps(tmp_path / "c") == kept


def test_a_state_that_is_not_finite_is_never_saved(tmp_path: Path, state: TrainState) -> None:
    bad = replace(state, params=jax.tree.map(lambda leaf: leaf.at[(0,) * leaf.ndim].set(jnp.nan), state.params))
    with checkpoint.writing(tmp_path / "c") as manager, pytest.raises(DivergenceError, match=r"params\..* not finite"):
        checkpoint.save(manager, bad)
    assert checkpoint.steps(tmp_path / "c") == []


def test_a_changed_value_is_found_by_its_digest_though_orbax_reads_it(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {1: 0.1, 2: 0.2})
    path = tmp_path / "c" / "2" / "manifest" / "metadata"
    values = json.loads(path.read_text())
    values["val_accuracy"] = 0.99
    path.write_text(json.dumps(values))
    problems = checkpoint.set_aside_damaged(tmp_path / "c")
    assert len(problems) == 1
    assert "does not match its digest" in problems[0]
    assert checkpoint.steps(tmp_path / "c") == [1]
    assert (tmp_path / "damaged" / "2").is_dir()


def test_nothing_is_moved_when_no_checkpoint_can_be_believed(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {1: 0.1})
    (tmp_path / "c" / "1" / "metrics" / "metrics").write_text("{}")
    with pytest.raises(CheckpointError, match="no other is left"):
        checkpoint.set_aside_damaged(tmp_path / "c")
    assert checkpoint.steps(tmp_path / "c") == [1]


def test_believable_checkpoints_are_left_alone(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {1: 0.1, 2: 0.2})
    assert checkpoint.set_aside_damaged(tmp_path / "c") == []
    assert checkpoint.set_aside_damaged(tmp_path / "none") == []
    assert checkpoint.steps(tmp_path / "c") == [1, 2]


def test_a_checkpoint_of_another_model_is_refused_and_not_called_damaged(tmp_path: Path, state: TrainState) -> None:
    _save(tmp_path / "c", state, {1: 0.1})
    other = make_model(ModelConfig(family="plain", widths=(5,), depths=(1,), dropout=0.3))
    with pytest.raises(CheckpointError, match="another model or optimiser"):
        checkpoint.restore(tmp_path / "c", 1, like=abstract_state(other, _OPTIMIZER))


def test_the_digest_sees_every_leaf(state: TrainState) -> None:
    leaves, structure = jax.tree.flatten(state)
    digests = {checkpoint.state_digest(state)}
    for index, leaf in enumerate(leaves):
        data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        bits = np.array(data)
        bits.reshape(-1).view(np.uint8)[0] ^= 1
        changed = jnp.asarray(bits)
        changed = jax.random.wrap_key_data(changed) if data is not leaf else changed
        digests.add(
            checkpoint.state_digest(jax.tree.unflatten(structure, [*leaves[:index], changed, *leaves[index + 1 :]]))
        )
    assert len(digests) == len(leaves) + 1
