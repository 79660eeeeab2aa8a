"""Spread and agreement of members, against Python's statistics and a count one example at a time."""

import statistics

import numpy as np
import pytest
from hypothesis import given, strategies as st

from fmnist_jax.analysis.members import agreement, mean_std


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_the_spread_is_mean_and_sample_deviation(values: list[float]) -> None:
    found = mean_std(values)
    assert found.mean == pytest.approx(statistics.mean(values), abs=1e-12)
    assert found.deviation == pytest.approx(statistics.stdev(values), abs=1e-12)


def test_one_member_alone_has_no_spread() -> None:
    found = mean_std([0.5])
    assert found.mean == 0.5
    assert np.isnan(found.deviation)


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 60))
def test_agreement_counts_each_example_by_the_members_that_predict_as_the_ensemble(
    seed: int, count: int, examples: int
) -> None:
    rng = np.random.default_rng(seed)
    members, (ensemble, labels) = rng.integers(0, 3, (count, examples)), rng.integers(0, 3, (2, examples))
    found = agreement(members, ensemble, labels)
    counts, wrong = [0] * (count + 1), [0] * (count + 1)
    for example in range(examples):
        group = sum(int(member[example] == ensemble[example]) for member in members)
        counts[group] += 1
        wrong[group] += int(ensemble[example] != labels[example])
    assert found.counts.tolist() == counts
    assert found.wrong.tolist() == wrong
    assert found.unanimous == pytest.approx(counts[-1] / examples)
    for group, error in enumerate(found.error):
        assert error == pytest.approx(wrong[group] / counts[group] if counts[group] else np.nan, nan_ok=True)


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_where_all_members_agree_the_mean_of_their_probabilities_agrees_with_them(seed: int, count: int) -> None:
    probabilities = np.random.default_rng(seed).dirichlet(np.full(3, 0.5), (count, 200))
    predictions = probabilities.argmax(-1)
    found = agreement(predictions, probabilities.mean(0).argmax(-1), np.zeros(200, int))
    assert found.counts[-1] == np.count_nonzero((predictions == predictions[0]).all(0))


def test_no_example_has_no_share() -> None:
    found = agreement(np.zeros((2, 0), int), np.zeros(0, int), np.zeros(0, int))
    assert found.counts.tolist() == [0, 0, 0]
    assert np.isnan(found.unanimous)
    assert np.isnan(found.error).all()
