"""Valid step numbers and scores of checkpoints."""

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.errors import CheckpointError
from fmnist_jax.runs.numbering import UNSCORED, recorded_score, refuse_used_step, step_number


@pytest.mark.parametrize("step", [3, np.int64(3), jnp.int32(3)])
def test_step_number_accepts_any_integer_type(step: Any) -> None:
    for number in (step_number({}, step), step_number(SimpleNamespace(step=step))):
        assert (number, type(number)) == (3, int)


@pytest.mark.parametrize(
    ("state", "step", "problem"),
    [
        ({}, None, "no single step"),
        (SimpleNamespace(step=jnp.array([3, 4])), None, "no single step"),
        ({}, 2.0, r"step is 2\.0: expected a whole number"),
        ({}, "3", r"step is '3': expected a whole number"),
        ({}, -1, r"step is -1: expected 0 or more"),
    ],
)
def test_step_number_rejects_missing_ambiguous_negative_and_non_integer_steps(
    state: Any, step: Any, problem: str
) -> None:
    with pytest.raises(CheckpointError, match=problem):
        step_number(state, step)


@pytest.mark.parametrize("score", [0.5, np.float32(0.5), jnp.float32(0.5), jnp.array(0.5)])
def test_recorded_score_accepts_any_scalar_type(score: Any) -> None:
    assert (recorded_score(score), type(recorded_score(score))) == (0.5, float)


def test_nan_is_recorded_as_unscored() -> None:
    assert recorded_score(float("nan")) == recorded_score(UNSCORED) == UNSCORED


@pytest.mark.parametrize("score", [-0.5, -2.0, float("inf"), "high", None])
def test_recorded_score_rejects_negative_infinite_and_non_numeric_scores(score: Any) -> None:
    with pytest.raises(CheckpointError, match="val_accuracy is "):
        recorded_score(score)


def test_refuse_used_step_rejects_existing_and_earlier_steps() -> None:
    refuse_used_step(31, [10, 20, 30], "checkpoints")
    refuse_used_step(0, [], "checkpoints")
    with pytest.raises(CheckpointError, match="checkpoints already has a checkpoint 20: give another step"):
        refuse_used_step(20, [10, 20, 30], "checkpoints")
    with pytest.raises(CheckpointError, match="has a checkpoint 30, later than 5: go on from restore_latest"):
        refuse_used_step(5, [10, 20, 30], "checkpoints")
