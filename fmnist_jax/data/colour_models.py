"""Segments a picture by colour: colours common along its edges belong to the background, the others to the object.

The colour distributions of background and object and the labels of the pixels are estimated alternately, as in GrabCut
(Rother, Kolmogorov and Blake 2004). Histograms replace its Gaussian mixtures (Boykov and Jolly 2001), and a filter
guided by the picture's own edges (He, Sun and Tang 2010) replaces its graph cut, which takes several times as long. No
pixel along the edges is certain to be background, so an object may reach them.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from fmnist_jax.data import surfaces

# From ITU-R BT.601; Pillow uses them to convert colour to grey.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)

_WORKING_EDGE = 96  # pixels; a sleeve of a garment that fills a third of the picture is still three wide
_BINS = 16  # per channel of a histogram
_CHROMA_REACH = 0.28  # largest difference from luma with a bin of its own; cloth, wood and skin seldom exceed it
_BLUR = 1.0  # bins of a histogram; neighbouring shades of a colour are likely, too
_UNSEEN_PROBABILITY = 1e-5  # probability of a colour that no pixel has
_MAX_EVIDENCE = 4.0  # nats at which the log-likelihood ratio of one pixel's colour is clipped
_EVIDENCE_WEIGHT = 0.5  # weight of a pixel's own colour, so that its neighbours count as well
_ITERATIONS = 6
_STIFFNESS = 0.3  # of the surface that models uneven light
_PRIOR_STD = 0.6  # standard deviation of the initial object prior, where the middle is 0 and the edges are 1
_INNER_WEIGHT = 0.5  # weight of an inner background pixel relative to one on the border
_RADIUS = 3  # pixels, of the guided filter
_SMOOTH = 1e-3  # variance of luma below which the guided filter sees no edge


def segment_by_colour(colours: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Finds the object's pixels, bool[h, w].

    Args:
      colours: f32[h, w, 3] in [0, 1].
      border: bool[h, w]: where background is expected.
    """
    small = shrink(colours)
    object_share = _object_probability(small, resize(border, small.shape[:2]))
    return resize(object_share, border.shape, Image.Resampling.BILINEAR) > 0.5


def shrink(colours: np.ndarray) -> np.ndarray:
    """A picture f32[h, w, 3] with at most 96 pixels on its longer edge."""
    shape = fit_size(colours.shape[:2], _WORKING_EDGE)
    return np.stack([resize(plane, shape) for plane in np.moveaxis(colours, -1, 0)], -1)


def fit_size(shape: tuple[int, ...], longest_edge: int) -> tuple[int, int]:
    """The height and width of a picture, scaled down in proportion if an edge exceeds `longest_edge`."""
    scale = min(1.0, longest_edge / max(shape))
    height, width = (max(1, round(edge * scale)) for edge in shape)
    return height, width


def resize(plane: np.ndarray, shape: tuple[int, ...], how: Image.Resampling = Image.Resampling.BOX) -> np.ndarray:
    """Resamples a plane of numbers or booleans [h, w] to `shape`, f32; booleans become the shares that are true."""
    height, width = shape
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize((width, height), how))


def _object_probability(colours: np.ndarray, border: np.ndarray) -> np.ndarray:
    """How likely each pixel is to belong to the object, f[h, w]; the border is given as shares."""
    bins = _bin_indices(_flatten_lighting(colours, border > 0.5 * border.max()))
    smooth = _make_guided_filter(colours @ LUMA)
    y, x = (np.linspace(-1, 1, edge, dtype=np.float32) for edge in border.shape)
    object_weights = (1 - border) * np.exp(-(x[None, :] ** 2 + y[:, None] ** 2) / (2 * _PRIOR_STD**2))
    background_weights, agreement = border, np.float32(0)
    for _ in range(_ITERATIONS):
        ratio = np.log(
            (_histogram(bins, object_weights) + _UNSEEN_PROBABILITY)
            / (_histogram(bins, background_weights) + _UNSEEN_PROBABILITY)
        )
        evidence = _EVIDENCE_WEIGHT * np.clip(ratio[bins], -_MAX_EVIDENCE, _MAX_EVIDENCE)
        object_weights = np.clip(smooth(1 / (1 + np.exp(-evidence - agreement))), 0, 1)
        agreement = 2 * object_weights - 1
        background_weights = border + _INNER_WEIGHT * (1 - object_weights)
    return object_weights


def _flatten_lighting(colours: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Removes uneven light: the quadratic surface that best fits most of the border, except for its mean."""
    surface = surfaces.fit_paraboloid(colours, border, _STIFFNESS).colours
    return np.clip(colours - surface + surface[border].mean(0), 0, 1)


def _bin_indices(colours: np.ndarray) -> np.ndarray:
    """The bin of each pixel in a histogram of luma and of blue and red minus luma, i[h, w]."""
    luma = colours @ LUMA
    blue, red = (0.5 + (colours[..., channel] - luma) / (2 * _CHROMA_REACH) for channel in (2, 0))
    levels = [np.clip(_BINS * values, 0, _BINS - 1).astype(np.intp) for values in (luma, blue, red)]
    return np.ravel_multi_index(levels, (_BINS,) * 3)


def _histogram(bins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The distribution of weights over colours, f[_BINS ** 3]."""
    counts = np.bincount(bins.ravel(), weights.ravel(), _BINS**3).reshape((_BINS,) * 3)
    blurred = ndimage.gaussian_filter(counts, _BLUR, mode="constant").ravel()
    return blurred / max(blurred.sum(), _UNSEEN_PROBABILITY)


def _make_guided_filter(guide: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A filter that smooths f[h, w], but not across the edges of a guide f[h, w]."""

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, 2 * _RADIUS + 1, mode="nearest")

    middle = mean(guide)
    variance = mean(guide * guide) - middle * middle

    def smooth(values: np.ndarray) -> np.ndarray:
        average = mean(values)
        slope = (mean(guide * values) - middle * average) / (variance + _SMOOTH)
        return mean(slope) * guide + mean(average - slope * middle)

    return smooth
