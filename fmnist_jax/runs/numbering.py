"""The number and the score under which a checkpoint is kept."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fmnist_jax.errors import CheckpointError

UNSCORED = -1.0
"""Recorded as the validation accuracy of a checkpoint that was not evaluated: lower than any real one."""


def step_number(state: Any, step: Any = None) -> int:
    """The number of a checkpoint: the given step, any kind of integer, or else that of the state.

    Raises:
      CheckpointError: it is not a whole number, is negative, or neither is given nor the state's.
    """
    if step is None:
        steps = np.unique(np.asarray(getattr(state, "step", [])))
        if steps.size != 1:
            raise CheckpointError("the state has no single step for the checkpoint's number: give it as step=")
        step = steps[0]
    try:
        number = operator.index(step)
    except TypeError as error:
        raise CheckpointError(f"step is {step!r}: expected a whole number") from error
    if number < 0:
        raise CheckpointError(f"step is {number}: expected 0 or more")
    return number


def refuse_used_step(number: int, used: Sequence[int], directory: Any) -> None:
    """Checks that a directory has no checkpoint of this number, nor of a higher one.

    With a higher one there, this one would be deleted as the older, or passed over by `restore_latest`.

    Raises:
      CheckpointError: it has.
    """
    if number in used:
        raise CheckpointError(f"{directory} already has a checkpoint {number}: give another step")
    if used and number < max(used):
        raise CheckpointError(
            f"{directory} has a checkpoint {max(used)}, later than {number}: go on from restore_latest, or give "
            "another directory"
        )


def recorded_score(val_accuracy: Any) -> float:
    """The score to record: the validation accuracy, any kind of number, or `UNSCORED` for NaN.

    Raises:
      CheckpointError: it is negative, and so no accuracy, or not a number.
    """
    try:
        score = float(val_accuracy)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"val_accuracy is {val_accuracy!r}: expected a number") from error
    if np.isnan(score):
        return UNSCORED
    if (score < 0 and score != UNSCORED) or np.isinf(score):
        raise CheckpointError(f"val_accuracy is {score}: expected a finite number, 0 or more; the best is the highest")
    return score
