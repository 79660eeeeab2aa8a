"""Smooth surfaces of colour fitted to the border of a picture: the background as it continues behind the object."""

from typing import NamedTuple

import numpy as np

MAD_TO_STD = 1.4826  # of a normal distribution: one over the 0.75 quantile of the standard one

_NEAR = 0.05  # in [0, 1]: a pixel of the border this near to the surface is background
_OUTLIER_DEVIATIONS = 3.0  # deviations from the surface beyond which a pixel of the border belongs to the object
_ROUNDS = 5
_SAMPLES = 1000  # pixels of the border to fit, at least, if it has as many; evenly spaced


class Surface(NamedTuple):
    """A background whose colour varies smoothly."""

    colours: np.ndarray
    """f32[h, w, 3] in [0, 1]."""
    residual: float
    """Median distance of the border's pixels from the surface."""


def fit_plane(colours: np.ndarray, border: np.ndarray) -> Surface:
    """Fits a plane for each channel to most of the border, ignoring an object that touches it.

    Args:
      colours: f32[h, w, 3] in [0, 1].
      border: bool[h, w].
    """
    one, x, y = _coordinates(border)
    return _fit(np.stack([one, x, y], -1), colours, border, np.zeros((3, 3), np.float32))


def fit_paraboloid(colours: np.ndarray, border: np.ndarray, stiffness: float = 0.0) -> Surface:
    """Fits a quadratic surface, such as a lens's vignetting or a lamp's light produces.

    Args:
      colours: as for `fit_plane`.
      border: as for `fit_plane`.
      stiffness: weight of the squared linear coefficients, doubled for the quadratic ones, against the mean squared
        distance from the border (ridge regression). If the border has several colours, a surface that bends freely
        follows an object that touches it, and is far from the background everywhere else.
    """
    one, x, y = _coordinates(border)
    penalties = np.sqrt(stiffness) * np.diag(np.sqrt(np.array([0, 1, 1, 2, 2, 2], np.float32)))
    return _fit(np.stack([one, x, y, x * x, x * y, y * y], -1), colours, border, penalties)


def distances(colours: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The root mean square difference between colours f[..., 3], as f[...]."""
    differences = colours - others
    return np.sqrt(np.einsum("...c,...c->...", differences, differences) / 3)


def _coordinates(border: np.ndarray) -> tuple[np.ndarray, ...]:
    y, x = (np.linspace(-1, 1, edge, dtype=np.float32) for edge in border.shape)
    return np.broadcast_arrays(np.float32(1), x[None, :], y[:, None])


def _fit(terms: np.ndarray, colours: np.ndarray, border: np.ndarray, penalties: np.ndarray) -> Surface:
    """Fits a combination of terms f32[h, w, K], leaving out in each round what is far from the previous fit."""
    indices = np.flatnonzero(border)
    indices = indices[:: max(1, len(indices) // _SAMPLES)]
    design, samples = terms.reshape(-1, terms.shape[-1])[indices], colours.reshape(-1, 3)[indices]
    coefficients = np.zeros((terms.shape[-1], 3), np.float32)
    coefficients[0] = np.median(samples, axis=0)
    for _ in range(_ROUNDS):
        distance = distances(samples, design @ coefficients)
        inside = distance <= max(_NEAR, _OUTLIER_DEVIATIONS * MAD_TO_STD * float(np.median(distance)))
        equations = np.concatenate([design[inside], np.sqrt(np.count_nonzero(inside)) * penalties])
        values = np.concatenate([samples[inside], np.zeros((len(penalties), 3), np.float32)])
        coefficients = np.linalg.lstsq(equations.astype(np.float32), values, rcond=None)[0]
    distance = distances(samples, design @ coefficients)
    return Surface(np.clip(terms @ coefficients, 0, 1), float(np.median(distance)))
