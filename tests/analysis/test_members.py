"""Spread and agreement of members, against Python's `statistics` and counts example by example."""

import statistics

import numpy as np
import pytest
from hypothesis import given, strategies as st

from fmnist_jax.analysis.members import agreement, mean_std


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_mean_std_is_mean_and_sample_standard_deviation(values: list[float]) -> None:
    actual = mean_std(values)
    assert actual.mean == pytest.approx(statistics.mean(values), abs=1e-12)
    assert actual.deviation == pytest.approx(statistics.stdev(values), abs=1e-12)


def test_mean_std_of_one_member_has_nan_deviation() -> None:
    actual = mean_std([0.5])
    assert actual.mean == 0.5
    assert np.isnan(actual.deviation)


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 60))
def test_agreement_counts_examples_by_the_number_of_members_that_agree(seed: int, count: int, examples: int) -> None:
    rng = np.random.default_rng(seed)
    members, (ensemble, labels) = rng.integers(0, 3, (count, examples)), rng.integers(0, 3, (2, examples))
    actual = agreement(members, ensemble, labels)
    counts, wrong = [0] * (count + 1), [0] * (count + 1)
    for example in range(examples):
        agreeing = sum(int(member[example] == ensemble[example]) for member in members)
        counts[agreeing] += 1
        wrong[agreeing] += int(ensemble[example] != labels[example])
    assert actual.counts.tolist() == counts
    assert actual.wrong.tolist() == wrong
    assert actual.unanimous == pytest.approx(counts[-1] / examples)
    for agreeing, error in enumerate(actual.error):
        assert error == pytest.approx(wrong[agreeing] / counts[agreeing] if counts[agreeing] else np.nan, nan_ok=True)


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_mean_of_probabilities_agrees_with_unanimous_members(seed: int, count: int) -> None:
    probabilities = np.random.default_rng(seed).dirichlet(np.full(3, 0.5), (count, 200))
    predictions = probabilities.argmax(-1)
    actual = agreement(predictions, probabilities.mean(0).argmax(-1), np.zeros(200, int))
    assert actual.counts[-1] == np.count_nonzero((predictions == predictions[0]).all(0))


def test_agreement_without_examples_is_nan() -> None:
    actual = agreement(np.zeros((2, 0), int), np.zeros(0, int), np.zeros(0, int))
    assert actual.counts.tolist() == [0, 0, 0]
    assert np.isnan(actual.unanimous)
    assert np.isnan(actual.error).all()
