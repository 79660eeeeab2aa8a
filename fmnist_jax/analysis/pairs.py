"""Comparison of two models on the same examples, as functions of NumPy arrays."""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from fmnist_jax.analysis.classification import Z_95, Interval


class PairedComparison(NamedTuple):
    """How a model compares with a reference model on N examples."""

    difference: float
    """Accuracy of the model minus that of the reference."""
    interval: Interval
    """95 % confidence interval for the difference in the limit of many such examples."""
    won: int
    """Examples that only the model gets right."""
    lost: int
    """Examples that only the reference gets right."""
    p_value: float
    """Probability of at least so uneven a split between the two if neither model is better."""


def paired_difference(correct: np.ndarray, reference: np.ndarray) -> PairedComparison:
    """Compares two models example by example, which says more than their separate intervals do.

    The p-value is that of the exact McNemar test (1947), the interval that of Agresti & Min 2005
    (10.1002/sim.1781), which adds half an example to each of the four cells; NaN without examples.

    Args:
      correct: bool[N], the examples that the model gets right.
      reference: bool[N], those that the reference gets right.
    """
    examples = len(correct)
    if not examples:
        return PairedComparison(math.nan, Interval(math.nan, math.nan), 0, 0, math.nan)
    won, lost = int(np.sum(correct & ~reference)), int(np.sum(~correct & reference))
    p_value = binomtest(won, won + lost, 0.5).pvalue if won + lost else 1.0
    total, gain, loss = examples + 2, won + 0.5, lost + 0.5
    middle = (gain - loss) / total
    half_width = Z_95 * math.sqrt(gain + loss - (gain - loss) ** 2 / total) / total
    interval = Interval(max(-1.0, middle - half_width), min(1.0, middle + half_width))
    return PairedComparison((won - lost) / examples, interval, won, lost, float(p_value))
