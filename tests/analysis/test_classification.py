"""Scores of predictions, against scikit-learn on random and degenerate examples."""

import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, strategies as st

from fmnist_jax.analysis import classification


def random_example(seed: int, count: int, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Logits f32 that are right about half of the time, and labels i32."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count).astype(np.int32)
    logits = rng.normal(0, 2, (count, classes)) + 3 * np.eye(classes)[labels]
    return logits.astype(np.float32), labels


def never_predicted() -> tuple[np.ndarray, np.ndarray]:
    logits, labels = random_example(1, 60)
    logits[:, 3] = -20
    return logits, labels


def all_wrong() -> tuple[np.ndarray, np.ndarray]:
    logits, labels = random_example(2, 40)
    logits[np.arange(40), labels] = -9
    return logits, labels


def without_a_class() -> tuple[np.ndarray, np.ndarray]:
    logits, labels = random_example(3, 50)
    return logits, np.where(labels == 7, 1, labels).astype(np.int32)


CASES = {
    "random": random_example(0, 500),
    "one right": random_example(6, 1),
    "one wrong": (np.eye(10, dtype=np.float32)[[4]], np.array([2], np.int32)),
    "all wrong": all_wrong(),
    "all right": (9 * np.eye(10, dtype=np.float32)[[0, 1, 2, 2]], np.array([0, 1, 2, 2], np.int32)),
    "a class never predicted": never_predicted(),
    "a class without examples": without_a_class(),
}


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    return CASES[request.param]


def test_confusion_matrix_matches_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = case
    ours = classification.confusion_matrix(labels, logits.argmax(-1), 10)
    expected = sklearn.metrics.confusion_matrix(labels, logits.argmax(-1), labels=range(10))
    assert np.array_equal(ours, expected)


def test_class_scores_match_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = case
    ours = classification.class_scores(classification.confusion_matrix(labels, logits.argmax(-1), 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = sklearn.metrics.precision_recall_fscore_support(
            labels, logits.argmax(-1), labels=range(10), zero_division=np.nan
        )
    for actual, reference in zip(ours, expected, strict=True):
        np.testing.assert_allclose(actual, reference, rtol=0, atol=1e-6)


def test_losses_match_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = case
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    expected = sklearn.metrics.log_loss(labels, shifted / shifted.sum(-1, keepdims=True), labels=range(10))
    assert classification.losses(logits, labels).mean() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_k_accuracy_matches_scikit_learn(case: tuple[np.ndarray, np.ndarray], k: int) -> None:
    logits, labels = case
    # Among ties, scikit-learn prefers the last class and ours, like argmax, the first: this breaks the ties.
    untied = logits.astype(np.float64) - 1e-9 * np.arange(10)
    expected = sklearn.metrics.top_k_accuracy_score(labels, untied, k=k, labels=range(10))
    assert classification.top_k_accuracy(logits, labels, k) == pytest.approx(expected, abs=1e-6)


def test_top_k_accuracy_breaks_ties_by_the_lower_label() -> None:
    logits = np.zeros((10, 10), np.float32)
    labels = np.arange(10)
    assert [classification.top_k_accuracy(logits, labels, k) for k in range(1, 11)] == [k / 10 for k in range(1, 11)]
    assert classification.top_k_accuracy(logits, labels, 1) == np.mean(logits.argmax(-1) == labels)


def test_losses_of_extreme_logits_are_finite() -> None:
    logits = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0]], np.float32)
    np.testing.assert_allclose(classification.losses(logits, np.array([0, 1])), [0, 2e4])


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_the_acceptance_region_of_the_score_test(counts: tuple[int, int]) -> None:
    right, examples = counts
    low, high = classification.wilson_interval(right, examples)
    share = right / examples
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1 and bound != share:
            # Each bound is a proportion from which the observed one lies 1.96 standard errors away.
            assert abs(share - bound) / np.sqrt(bound * (1 - bound) / examples) == pytest.approx(1.959964, rel=1e-6)


def test_wilson_interval_matches_published_examples() -> None:
    # Newcombe 1998 (Statistics in Medicine 17), table I, method 3: 81/263, 15/148, 0/20 and 1/29.
    for counts, expected in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert classification.wilson_interval(*counts) == pytest.approx(expected, abs=5e-5)


def test_scores_are_nan_or_empty_without_examples_and_nan_logits_count_as_wrong() -> None:
    logits, labels = np.zeros((0, 10), np.float32), np.zeros(0, np.int32)
    assert np.isnan(classification.wilson_interval(0, 0)).all()
    assert np.isnan(classification.top_k_accuracy(logits, labels, 2))
    nan_logits = np.array([[np.nan] * 10, [np.nan, *[1.0] * 9]])
    assert [classification.top_k_accuracy(nan_logits, np.array([0, 1]), k) for k in (1, 2, 10)] == [0, 0, 0]
    scores = classification.class_scores(classification.confusion_matrix(labels, labels, 10))
    assert np.isnan([scores.precision, scores.recall, scores.f1]).all()
    assert classification.most_confused(np.zeros((10, 10), int), 5) == []
    assert classification.most_confidently_wrong(logits, labels, 5).tolist() == []


def test_most_confused_pairs_are_sorted_and_exclude_the_diagonal() -> None:
    confusion = np.array([[90, 3, 5], [5, 5, 0], [0, 0, 7]])
    pairs = classification.most_confused(confusion, 9)
    assert [tuple(pair) for pair in pairs] == [(1, 0, 5, 0.5), (0, 2, 5, 5 / 98), (0, 1, 3, 3 / 98)]
    assert classification.most_confused(confusion, 1) == pairs[:1]


def test_most_confidently_wrong_are_wrong_and_sorted_by_confidence() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    labels = np.array([0, 1, 0, 0])
    assert classification.most_confidently_wrong(probabilities, labels, 9).tolist() == [2, 3, 1]
    assert classification.most_confidently_wrong(probabilities, labels, 2).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("probabilities", "labels"), [([0.1, 0.4, 0.1, 0.4], [1, 3, 0]), ([0.2, 0.8], [1, 0]), ([1.0], [0])]
)
def test_most_probable_is_sorted_and_breaks_ties_by_the_lower_label(
    probabilities: list[float], labels: list[int]
) -> None:
    assert classification.most_probable(np.array(probabilities)) == labels
