"""Whether predicted probabilities mean what they say, as functions of NumPy arrays."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from fmnist_jax.analysis.classification import losses

_MAX_TEMPERATURE = 100.0  # leaves hardly any confidence; its inverse turns every lead into certainty


class Reliability(NamedTuple):
    """Examples binned by confidence: the probability of the predicted class, which is at least 1 / C."""

    edges: np.ndarray
    """f64[B + 1]: edges of the bins, from 0 to 1; a bin includes its upper edge, the first one also 0."""
    counts: np.ndarray
    """i64[B]: examples in each bin."""
    right: np.ndarray
    """i64[B]: how many of these were classified correctly."""
    confidence: np.ndarray
    """f64[B]: their mean confidence; NaN in an empty bin."""

    @property
    def accuracy(self) -> np.ndarray:
        """f64[B]: the share of each bin that was classified correctly; NaN in an empty bin."""
        return np.divide(self.right, self.counts, out=np.full(len(self.counts), np.nan), where=self.counts > 0)

    @property
    def calibration_error(self) -> float:
        """The mean gap between confidence and accuracy over the bins, weighted by examples; NaN without any."""
        examples = self.counts.sum()
        if not examples:
            return float("nan")
        filled = self.counts > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float((self.counts[filled] * gaps).sum() / examples)


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Sorts predictions into bins of equal width by their confidence.

    Args:
      probabilities: f[N, C].
      labels: i[N].
      bins: the number of bins; 15 as in Guo et al. 2017 (arXiv:1706.04599).
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    probabilities = np.asarray(probabilities, np.float64)
    confidence = probabilities.max(-1)
    bin_indices = np.searchsorted(edges[1:-1], confidence)
    counts = np.bincount(bin_indices, minlength=bins)
    right = np.bincount(bin_indices[probabilities.argmax(-1) == labels], minlength=bins)
    total = np.bincount(bin_indices, confidence, minlength=bins)
    mean = np.divide(total, counts, out=np.full(bins, np.nan), where=counts > 0)
    return Reliability(edges, counts, right, mean)


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Computes the mean gap between confidence and accuracy over bins of equal width, weighted by their examples.

    Naeini et al. 2015 (AAAI), Guo et al. 2017 (arXiv:1706.04599).

    Args:
      probabilities: f[N, C].
      labels: i[N].
      bins: the number of bins.

    Returns:
      The error in [0, 1]; NaN without examples.
    """
    return reliability(probabilities, labels, bins).calibration_error


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Finds the temperature T in [1/100, 100] at which `softmax(logits / T)` has the least mean cross-entropy.

    Temperature scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2): above 1, the model is overconfident.
    The loss has a single minimum in 1 / T.

    Args:
      logits: f[N, C].
      labels: i[N].

    Returns:
      T; NaN without examples.
    """
    if not len(labels):
        return float("nan")
    end = np.log(_MAX_TEMPERATURE)
    tolerance = {"xatol": 1e-3}  # of the logarithm
    found = minimize_scalar(
        lambda log: losses(logits / np.exp(log), labels).mean(), bounds=(-end, end), options=tolerance
    )
    return float(np.exp(found.x))
