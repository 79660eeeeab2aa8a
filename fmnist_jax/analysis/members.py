"""What the members of a population say of one another, as functions of NumPy arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
    """A number of which each member has its own."""

    mean: float
    deviation: float
    """Sample standard deviation (divisor M - 1); NaN of fewer than two members."""


class Agreement(NamedTuple):
    """Examples by how many of M members predict what their ensemble predicts."""

    counts: np.ndarray
    """i64[M + 1]: examples on which 0, 1, …, M members do."""
    wrong: np.ndarray
    """i64[M + 1]: of these, how many the ensemble predicts wrong."""

    @property
    def error(self) -> np.ndarray:
        """f64[M + 1]: the share of each group that is wrong; NaN in an empty one."""
        return np.divide(self.wrong, self.counts, out=np.full(len(self.counts), np.nan), where=self.counts > 0)

    @property
    def unanimous(self) -> float:
        """Share of the examples on which all members agree, and so the ensemble with them; NaN without examples."""
        examples = self.counts.sum()
        return float(self.counts[-1] / examples) if examples else float("nan")


def spread(values: Sequence[float]) -> Spread:
    """Computes mean and standard deviation of M >= 1 numbers."""
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"))


def agreement(members: np.ndarray, ensemble: np.ndarray, labels: np.ndarray) -> Agreement:
    """Counts the members that predict what the ensemble does.

    Args:
      members: i[M, N], the class that each predicts.
      ensemble: i[N], the class of the largest mean probability.
      labels: i[N].
    """
    agreeing, groups = (members == ensemble).sum(0), len(members) + 1
    return Agreement(
        counts=np.bincount(agreeing, minlength=groups),
        wrong=np.bincount(agreeing[ensemble != labels], minlength=groups),
    )
