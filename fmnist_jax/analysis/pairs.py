"""Two models on the same examples, as functions of NumPy arrays."""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from fmnist_jax.analysis.classification import Z_95, Interval


class Paired(NamedTuple):
    """What one model gets right that another does not, on N examples."""

    difference: float
    """Accuracy of the one less that of the other."""
    interval: Interval
    """In which the difference on ever more such examples would be, with 95 % confidence."""
    won: int
    """Examples that the one alone gets right."""
    lost: int
    """Examples that the other alone gets right."""
    p_value: float
    """How probable so uneven a division of these is if neither model is better."""


def paired_difference(right: np.ndarray, reference: np.ndarray) -> Paired:
    """Compares two models example by example, which says more than their two intervals do.

    The probability is that of McNemar's test (1947) in its exact form, the interval that of Agresti & Min 2005
    (10.1002/sim.1781), which adds half an example to each of the four cells; NaN without examples.

    Args:
      right: bool[N], the examples that the one gets right.
      reference: bool[N], those that the other gets right.
    """
    examples = len(right)
    if not examples:
        return Paired(math.nan, Interval(math.nan, math.nan), 0, 0, math.nan)
    won, lost = int(np.sum(right & ~reference)), int(np.sum(~right & reference))
    p_value = binomtest(won, won + lost, 0.5).pvalue if won + lost else 1.0
    total, gain, loss = examples + 2, won + 0.5, lost + 0.5
    middle = (gain - loss) / total
    reach = Z_95 * math.sqrt(gain + loss - (gain - loss) ** 2 / total) / total
    interval = Interval(max(-1.0, middle - reach), min(1.0, middle + reach))
    return Paired((won - lost) / examples, interval, won, lost, float(p_value))
