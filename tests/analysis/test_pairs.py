"""Paired differences, against explicit sums and random draws with a known difference."""

import math
from math import comb

import numpy as np
import pytest
from scipy.stats import norm

from fmnist_jax.analysis.pairs import paired_difference


def _make_outcomes(won: int, lost: int, ties: int) -> tuple[np.ndarray, np.ndarray]:
    first_correct = np.repeat([True, False, True], [won, lost, ties])
    return first_correct, np.repeat([False, True, True], [won, lost, ties])


@pytest.mark.parametrize(("won", "lost"), [(3, 1), (1, 3), (10, 2), (5, 5), (0, 4)])
def test_p_value_is_the_exact_two_sided_binomial_tail(won: int, lost: int) -> None:
    result = paired_difference(*_make_outcomes(won, lost, 50))
    discordant, fewer = won + lost, min(won, lost)
    tail = sum(comb(discordant, count) for count in range(fewer + 1)) / 2**discordant
    assert result.p_value == pytest.approx(min(1.0, 2 * tail))
    assert (result.won, result.lost) == (won, lost)
    assert result.difference == (won - lost) / (won + lost + 50)
    assert result.interval.low < result.difference < result.interval.high


@pytest.mark.parametrize(("won", "lost", "ties"), [(10, 2, 50), (2, 10, 5), (0, 0, 3), (4, 0, 0), (0, 1, 0)])
def test_interval_is_the_normal_one_for_half_an_example_more_in_each_cell(won: int, lost: int, ties: int) -> None:
    better, worse, equal = (won + 0.5, lost + 0.5, ties + 1.0)
    outcomes, weights = np.array([1.0, -1.0, 0.0]), np.array([better, worse, equal])
    mean = np.average(outcomes, weights=weights)
    error = np.sqrt(np.average((outcomes - mean) ** 2, weights=weights) / weights.sum())
    interval = paired_difference(*_make_outcomes(won, lost, ties)).interval
    low, high = norm.interval(0.95, mean, error)
    assert interval == pytest.approx((max(-1, low), min(1, high)))


def test_equal_models_have_difference_zero_and_p_value_one() -> None:
    result = paired_difference(*_make_outcomes(0, 0, 10))
    assert (result.difference, result.p_value) == (0.0, 1.0)
    assert result.interval.low == -result.interval.high


def test_difference_and_p_value_are_nan_without_examples() -> None:
    result = paired_difference(*_make_outcomes(0, 0, 0))
    assert math.isnan(result.difference)
    assert math.isnan(result.p_value)


def test_interval_covers_the_true_difference_in_about_95_percent_of_draws() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        cell = rng.choice(4, 200, p=[0.06, 0.03, 0.85, 0.06])  # won, lost, both right, both wrong
        interval = paired_difference((cell == 0) | (cell == 2), (cell == 1) | (cell == 2)).interval
        covered += interval.low <= 0.03 <= interval.high
    assert 0.92 < covered / 400 < 0.99
