"""Everything that logits and labels say about a model, computed once for tables, files, figures and the report."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from fmnist_jax.analysis.calibration import Reliability, reliability
from fmnist_jax.analysis.classification import (
    ClassScores,
    Confusion,
    Interval,
    class_scores,
    confusion_matrix,
    losses,
    most_confidently_wrong,
    most_confused,
    top_k_accuracy,
    wilson_interval,
)

_MAX_CONFUSIONS = 10  # confused pairs


class Assessment(NamedTuple):
    """The scores of a model on N examples of C classes."""

    labels: np.ndarray
    """i[N]."""
    probabilities: np.ndarray
    """f64[N, C]."""
    predictions: np.ndarray
    """i64[N]: the most probable class."""
    accuracy: float
    interval: Interval
    """95 % confidence interval for the accuracy in the limit of many such examples."""
    loss: float
    """Mean cross-entropy in nats."""
    top2: float
    """Share of the examples whose class is among the two most probable."""
    confusion: np.ndarray
    """i64[C, C]: true class by row, predicted class by column."""
    classes: ClassScores
    reliability: Reliability
    calibration_error: float
    """Expected calibration error, in [0, 1]."""
    most_confused: list[Confusion]
    wrong: np.ndarray
    """i64[<= N]: indices of the misclassified examples, most confident first."""


def assess(logits: np.ndarray, labels: np.ndarray) -> Assessment:
    """Scores logits f[N, C], none of them NaN, against labels i[N]; scores are NaN without examples."""
    examples, classes = logits.shape
    probabilities = softmax(np.asarray(logits, np.float64), axis=-1)
    predictions = probabilities.argmax(-1)
    confusion = confusion_matrix(labels, predictions, classes)
    right, bins = int(np.trace(confusion)), reliability(probabilities, labels)
    return Assessment(
        labels=labels,
        probabilities=probabilities,
        predictions=predictions,
        accuracy=right / examples if examples else math.nan,
        interval=wilson_interval(right, examples),
        loss=float(losses(logits, labels).mean()) if examples else math.nan,
        top2=top_k_accuracy(logits, labels, 2),
        confusion=confusion,
        classes=class_scores(confusion),
        reliability=bins,
        calibration_error=bins.calibration_error,
        most_confused=most_confused(confusion, _MAX_CONFUSIONS),
        wrong=most_confidently_wrong(probabilities, labels, examples),
    )


def to_dict(assessment: Assessment, class_names: Sequence[str]) -> dict[str, Any]:
    """Converts the scores to values that JSON can hold: NaN and infinity become null, and of `wrong`, 25 are kept."""
    scores, bins = assessment.classes, assessment.reliability
    return {
        "examples": len(assessment.labels),
        "accuracy": finite_or_none(assessment.accuracy),
        "accuracy_interval_95": [finite_or_none(end) for end in assessment.interval],
        "loss": finite_or_none(assessment.loss),
        "top2_accuracy": finite_or_none(assessment.top2),
        "expected_calibration_error": finite_or_none(assessment.calibration_error),
        "classes": {
            name: {
                "precision": finite_or_none(scores.precision[i]),
                "recall": finite_or_none(scores.recall[i]),
                "f1": finite_or_none(scores.f1[i]),
                "support": int(scores.support[i]),
            }
            for i, name in enumerate(class_names)
        },
        "confusion_matrix": assessment.confusion.tolist(),
        "most_confused": [
            {"true": class_names[pair.true], "predicted": class_names[pair.predicted], "count": pair.examples}
            for pair in assessment.most_confused
        ],
        "most_confidently_wrong": [
            _mistake_to_dict(assessment, int(index), class_names) for index in assessment.wrong[:25]
        ],
        "reliability": {
            "edges": bins.edges.tolist(),
            "counts": bins.counts.tolist(),
            "accuracy": [finite_or_none(value) for value in bins.accuracy],
            "confidence": [finite_or_none(value) for value in bins.confidence],
        },
    }


def _mistake_to_dict(assessment: Assessment, index: int, class_names: Sequence[str]) -> dict[str, Any]:
    predicted = assessment.predictions[index]
    return {
        "index": index,
        "true": class_names[assessment.labels[index]],
        "predicted": class_names[predicted],
        "probability": finite_or_none(assessment.probabilities[index, predicted]),
    }


def finite_or_none(value: float) -> float | None:
    """The value, or None for one that JSON cannot hold: a loss is infinite if a label's probability is 0."""
    return float(value) if math.isfinite(value) else None
