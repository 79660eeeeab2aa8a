"""All scores of a model together: consistent, and JSON that any program reads."""

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

from fmnist_jax.analysis.assessment import assess, to_dict
from fmnist_jax.functional.labels import CLASS_NAMES


def random(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.int32)
    return (rng.normal(0, 2, (count, 10)) + 3 * np.eye(10)[labels]).astype(np.float32), labels


@given(st.integers(0, 10_000), st.integers(1, 200))
def test_scores_are_scikit_learns_and_agree_with_one_another(seed: int, count: int) -> None:
    logits, labels = random(seed, count)
    ours = assess(logits, labels)
    assert ours.accuracy == pytest.approx(accuracy_score(labels, logits.argmax(-1)), abs=1e-6)
    assert ours.top2 == pytest.approx(top_k_accuracy_score(labels, logits, k=2, labels=range(10)), abs=1e-6)
    assert ours.loss == pytest.approx(log_loss(labels, ours.probabilities, labels=range(10)), abs=1e-6)
    assert ours.interval.low <= ours.accuracy <= ours.interval.high
    assert len(ours.wrong) == count - np.trace(ours.confusion) == count - ours.reliability.right.sum()
    surest = ours.probabilities[ours.wrong].max(-1)
    assert (np.diff(surest) <= 0).all()


@pytest.mark.parametrize("count", [0, 1, 30])
def test_the_dictionary_is_strict_json_with_every_class(count: int) -> None:
    written = to_dict(assess(*random(4, count)), CLASS_NAMES)
    back = json.loads(json.dumps(written, allow_nan=False))
    assert back == written
    assert list(back["classes"]) == list(CLASS_NAMES)
    assert back["examples"] == count
    assert (back["accuracy"] is None) == (count == 0)


def test_wrong_examples_are_named_with_their_classes_and_probability() -> None:
    logits = np.zeros((2, 10), np.float32)
    logits[:, 6] = 50
    written = to_dict(assess(logits, np.array([6, 0], np.int32)), CLASS_NAMES)
    assert written["most_confidently_wrong"] == [
        {"index": 1, "true": "T-shirt/top", "predicted": "Shirt", "probability": 1.0}
    ]
    assert written["most_confused"] == [{"true": "T-shirt/top", "predicted": "Shirt", "count": 1}]
    assert written["classes"]["Coat"] == {"precision": None, "recall": None, "f1": None, "support": 0}
