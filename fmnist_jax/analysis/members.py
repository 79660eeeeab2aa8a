"""How the members of a population compare with one another, as functions of NumPy arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class MeanStd(NamedTuple):
    """How a number is distributed over the members."""

    mean: float
    deviation: float
    """Sample standard deviation (divisor M - 1); NaN for fewer than two members."""


class Agreement(NamedTuple):
    """Examples grouped by how many of M members predict the same class as their ensemble."""

    counts: np.ndarray
    """i64[M + 1]: examples on which 0, 1, …, M members do."""
    wrong: np.ndarray
    """i64[M + 1]: how many of these the ensemble gets wrong."""

    @property
    def error(self) -> np.ndarray:
        """f64[M + 1]: the share of each group that the ensemble gets wrong; NaN in an empty group."""
        return np.divide(self.wrong, self.counts, out=np.full(len(self.counts), np.nan), where=self.counts > 0)

    @property
    def unanimous(self) -> float:
        """Share of the examples on which all members agree, and so the ensemble with them; NaN without examples."""
        examples = self.counts.sum()
        return float(self.counts[-1] / examples) if examples else float("nan")


def mean_std(values: Sequence[float]) -> MeanStd:
    """Computes mean and standard deviation of M >= 1 numbers."""
    return MeanStd(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"))


def agreement(members: np.ndarray, ensemble: np.ndarray, labels: np.ndarray) -> Agreement:
    """Groups examples by the number of members that predict the same class as the ensemble.

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
