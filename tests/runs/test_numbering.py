"""What a checkpoint may be numbered and scored by."""

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.errors import CheckpointError
from fmnist_jax.runs.numbering import UNSCORED, recorded_score, refuse_taken, step_number


@pytest.mark.parametrize("step", [3, np.int64(3), jnp.int32(3)])
def test_a_number_is_any_kind_of_integer(step: Any) -> None:
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
def test_any_other_number_is_refused(state: Any, step: Any, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem):
        step_number(state, step)


@pytest.mark.parametrize("score", [0.5, np.float32(0.5), jnp.float32(0.5), jnp.array(0.5)])
def test_a_score_is_any_kind_of_number(score: Any) -> None:
    assert (recorded_score(score), type(recorded_score(score))) == (0.5, float)


def test_a_score_of_nothing_is_none() -> None:
    assert recorded_score(float("nan")) == recorded_score(UNSCORED) == UNSCORED


@pytest.mark.parametrize("score", [-0.5, -2.0, float("inf"), "high", None])
def test_any_other_score_is_refused(score: Any) -> None:
    with pytest.raises(CheckpointError, match="val_accuracy is "):
        recorded_score(score)


def test_numbers_rise() -> None:
    refuse_taken(31, [10, 20, 30], "checkpoints")
    refuse_taken(0, [], "checkpoints")
    with pytest.raises(CheckpointError, match="checkpoints already has a checkpoint 20: give another step"):
        refuse_taken(20, [10, 20, 30], "checkpoints")
    with pytest.raises(CheckpointError, match="has a checkpoint 30, later than 5: go on from restore_latest"):
        refuse_taken(5, [10, 20, 30], "checkpoints")
