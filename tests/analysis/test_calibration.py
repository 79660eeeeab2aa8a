"""Calibration, against scikit-learn's calibration curve and known errors and temperatures."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn.calibration import calibration_curve

from fmnist_jax.analysis.calibration import best_temperature, expected_calibration_error, reliability


def random_predictions(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(10, 0.3), count), rng.integers(0, 10, count)


@given(st.integers(0, 10_000), st.integers(1, 300), st.integers(1, 20))
def test_reliability_matches_scikit_learns_calibration_curve(seed: int, count: int, bins: int) -> None:
    probabilities, labels = random_predictions(seed, count)
    ours = reliability(probabilities, labels, bins)
    right = probabilities.argmax(-1) == labels
    accuracy, confidence = calibration_curve(right, probabilities.max(-1), n_bins=bins, pos_label=True)
    nonempty = ours.counts > 0
    np.testing.assert_allclose(ours.accuracy[nonempty], accuracy, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.confidence[nonempty], confidence, rtol=0, atol=1e-6)
    assert np.isnan(ours.accuracy[~nonempty]).all()
    assert np.isnan(ours.confidence[~nonempty]).all()
    assert [int(ours.counts.sum()), int(ours.right.sum())] == [count, int(right.sum())]
    weights = ours.counts[nonempty] / count
    expected = (weights * np.abs(accuracy - confidence)).sum()
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [
        pytest.param([1.0], [1], 0.0, id="one, certain and right"),
        pytest.param([1.0], [0], 1.0, id="one, certain and wrong"),
        pytest.param([0.6], [0], 0.6, id="one, uncertain and wrong"),
        pytest.param([0.75] * 4, [1, 1, 1, 0], 0.0, id="calibrated"),
        pytest.param([0.9] * 10, [1] * 5 + [0] * 5, 0.4, id="overconfident"),
        pytest.param([0.55, 0.95], [1, 1], 0.25, id="underconfident"),
    ],
)
def test_calibration_error_is_the_gap_between_confidence_and_accuracy(
    confidence: list[float], right: list[int], expected: float
) -> None:
    confidences = np.array(confidence)
    actual = expected_calibration_error(np.stack([confidences, 1 - confidences], axis=1), 1 - np.array(right))
    assert actual == pytest.approx(expected, abs=1e-9)


def test_confidence_on_a_bin_edge_falls_into_the_lower_bin() -> None:
    confidences = np.array([0.5, 0.75, 1.0])
    bins = reliability(np.stack([confidences, 1 - confidences], axis=1), np.zeros(3, int), bins=4)
    assert bins.counts.tolist() == [0, 1, 1, 1]
    assert bins.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_probabilities_and_labels_may_be_lists() -> None:
    assert expected_calibration_error([[0.25, 0.75], [0.5, 0.5]], [1, 1]) == pytest.approx(0.375)  # type: ignore[arg-type]


def test_calibration_error_without_examples_is_nan() -> None:
    bins = reliability(np.zeros((0, 10)), np.zeros(0, int))
    assert bins.counts.sum() == 0
    assert np.isnan(expected_calibration_error(np.zeros((0, 10)), np.zeros(0, int)))


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_best_temperature_recovers_the_factor_of_scaled_logits(temperature: float) -> None:
    rng = np.random.default_rng(0)
    true_logits = rng.normal(size=(20_000, 5))
    labels = (true_logits + rng.gumbel(size=true_logits.shape)).argmax(-1)  # drawn from softmax(true_logits)
    assert best_temperature(temperature * true_logits, labels) == pytest.approx(temperature, rel=0.05)


def test_best_temperature_is_low_if_all_right_high_if_all_wrong_and_nan_if_empty() -> None:
    logits, labels = np.eye(3), np.arange(3)
    assert best_temperature(logits, labels) < 0.05  # where the loss is 0 in float64
    assert best_temperature(logits, (labels + 1) % 3) == pytest.approx(100.0, rel=0.1)
    assert np.isnan(best_temperature(logits[:0], labels[:0]))
