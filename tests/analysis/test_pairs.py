"""Paired differences, against sums written out and against draws whose difference is known."""

import math
from math import comb

import numpy as np
import pytest

from fmnist_jax.analysis.pairs import paired_difference


def _models(won: int, lost: int, same: int) -> tuple[np.ndarray, np.ndarray]:
    right = np.repeat([True, False, True], [won, lost, same])
    return right, np.repeat([False, True, True], [won, lost, same])


@pytest.mark.parametrize(("won", "lost"), [(3, 1), (1, 3), (10, 2), (5, 5), (0, 4)])
def test_the_test_is_the_binomial_sum_over_what_is_as_uneven(won: int, lost: int) -> None:
    found = paired_difference(*_models(won, lost, 50))
    discordant, fewer = won + lost, min(won, lost)
    tail = sum(comb(discordant, count) for count in range(fewer + 1)) / 2**discordant
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))
    assert (found.won, found.lost) == (won, lost)
    assert found.difference == (won - lost) / (won + lost + 50)
    assert found.interval.low < found.difference < found.interval.high


def test_equal_models_differ_by_nothing() -> None:
    found = paired_difference(*_models(0, 0, 10))
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert found.interval.low == -found.interval.high


def test_without_examples_nothing_is_known() -> None:
    found = paired_difference(*_models(0, 0, 0))
    assert math.isnan(found.difference)
    assert math.isnan(found.p_value)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        cell = rng.choice(4, 200, p=[0.06, 0.03, 0.85, 0.06])  # won, lost, both right, both wrong
        interval = paired_difference((cell == 0) | (cell == 2), (cell == 1) | (cell == 2)).interval
        held += interval.low <= 0.03 <= interval.high
    assert 0.92 < held / 400 < 0.99
