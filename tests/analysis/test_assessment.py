"""All scores of a model together: consistent, and serializable as strict JSON."""

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

from fmnist_jax.analysis.assessment import assess, to_dict
from fmnist_jax.functional.labels import CLASS_NAMES


def random_predictions(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.int32)
    return (rng.normal(0, 2, (count, 10)) + 3 * np.eye(10)[labels]).astype(np.float32), labels


@given(st.integers(0, 10_000), st.integers(1, 200))
def test_scores_match_scikit_learn_and_are_consistent(seed: int, count: int) -> None:
    logits, labels = random_predictions(seed, count)
    ours = assess(logits, labels)
    assert ours.accuracy == pytest.approx(accuracy_score(labels, logits.argmax(-1)), abs=1e-6)
    assert ours.top2 == pytest.approx(top_k_accuracy_score(labels, logits, k=2, labels=range(10)), abs=1e-6)
    assert ours.loss == pytest.approx(log_loss(labels, ours.probabilities, labels=range(10)), abs=1e-6)
    assert ours.interval.low <= ours.accuracy <= ours.interval.high
    assert len(ours.wrong) == count - np.trace(ours.confusion) == count - ours.reliability.right.sum()
    wrong_confidences = ours.probabilities[ours.wrong].max(-1)
    assert (np.diff(wrong_confidences) <= 0).all()


@pytest.mark.parametrize("count", [0, 1, 30])
def test_to_dict_is_strict_json_with_every_class(count: int) -> None:
    written = to_dict(assess(*random_predictions(4, count)), CLASS_NAMES)
    decoded = json.loads(json.dumps(written, allow_nan=False))
    assert decoded == written
    assert list(decoded["classes"]) == list(CLASS_NAMES)
    assert decoded["examples"] == count
    assert (decoded["accuracy"] is None) == (count == 0)


def test_infinite_loss_is_null_in_json() -> None:
    scores = assess(np.array([[0.0, -np.inf], [1.0, 0.0]], np.float32), np.array([1, 0], np.int32))
    assert scores.loss == np.inf
    assert json.loads(json.dumps(to_dict(scores, "ab"), allow_nan=False))["loss"] is None


def test_to_dict_lists_wrong_examples_with_classes_and_probability() -> None:
    logits = np.zeros((2, 10), np.float32)
    logits[:, 6] = 50
    written = to_dict(assess(logits, np.array([6, 0], np.int32)), CLASS_NAMES)
    assert written["most_confidently_wrong"] == [
        {"index": 1, "true": "T-shirt/top", "predicted": "Shirt", "probability": 1.0}
    ]
    assert written["most_confused"] == [{"true": "T-shirt/top", "predicted": "Shirt", "count": 1}]
    assert written["classes"]["Coat"] == {"precision": None, "recall": None, "f1": None, "support": 0}
