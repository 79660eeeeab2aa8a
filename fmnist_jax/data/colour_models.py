"""Divides a picture by colours: those that are common along its edges are the background's, the others the object's.

The colours of background and object and the division of the pixels are estimated in turn, as GrabCut does (Rother,
Kolmogorov and Blake 2004). Histograms stand for its mixtures of Gaussians (Boykov and Jolly 2001), and a filter that is
guided by the picture's own edges (He, Sun and Tang 2010) for its graph cut, which takes several times as long. Nothing
along the edges is background for certain, so an object may reach them.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from fmnist_jax.data import surfaces

# Of ITU-R BT.601, by which Pillow turns colours grey.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)

_WORKING_EDGE = 96  # pixels; a sleeve of a garment that fills a third of the picture still has three
_BINS = 16  # of each channel of a histogram
_CHROMA_REACH = 0.28  # differences from luma that have bins of their own; cloth, wood and skin seldom have larger ones
_BLUR = 1.0  # bins, of a histogram: the next shade of a colour is likely, too
_NEVER_SEEN = 1e-5  # probability of a colour that no pixel has
_MOST_EVIDENCE = 4.0  # nats that one pixel's colour may weigh
_EVIDENCE = 0.5  # of a pixel's own colour, so that its neighbours count as well
_ROUNDS = 6
_STIFFNESS = 0.3  # of the surface that uneven light is taken for
_CENTRAL = 0.6  # deviation of where objects are expected at first, where the middle is 0 and the edges are 1
_INNER = 0.5  # what an inner pixel of the background weighs against one of the border
_RADIUS = 3  # pixels, of the guided filter
_SMOOTH = 1e-3  # variance of luma below which the guided filter sees no edge


def divide(colours: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Finds the object's pixels, bool[h, w].

    Args:
      colours: f32[h, w, 3] in [0, 1].
      border: bool[h, w]: where background is expected.
    """
    small = shrunk(colours)
    object_share = _object_share(small, resized(border, small.shape[:2]))
    return resized(object_share, border.shape, Image.Resampling.BILINEAR) > 0.5


def shrunk(colours: np.ndarray) -> np.ndarray:
    """A picture f32[h, w, 3] with at most 96 pixels on its longer edge."""
    shape = fitting(colours.shape[:2], _WORKING_EDGE)
    return np.stack([resized(plane, shape) for plane in np.moveaxis(colours, -1, 0)], -1)


def fitting(shape: tuple[int, ...], longest_edge: int) -> tuple[int, int]:
    """The height and width of a picture of some shape, shrunk in proportion if an edge is longer than it may be."""
    scale = min(1.0, longest_edge / max(shape))
    height, width = (max(1, round(edge * scale)) for edge in shape)
    return height, width


def resized(plane: np.ndarray, shape: tuple[int, ...], how: Image.Resampling = Image.Resampling.BOX) -> np.ndarray:
    """A plane of numbers or booleans [h, w] in another shape, f32; of booleans, the shares that are true."""
    height, width = shape
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize((width, height), how))


def _object_share(colours: np.ndarray, border: np.ndarray) -> np.ndarray:
    """How likely each pixel is the object's, f[h, w]; the border is given as shares."""
    bins = _bins(_level(colours, border > 0.5 * border.max()))
    smooth = _guided_by(colours @ LUMA)
    y, x = (np.linspace(-1, 1, edge, dtype=np.float32) for edge in border.shape)
    of_object = (1 - border) * np.exp(-(x[None, :] ** 2 + y[:, None] ** 2) / (2 * _CENTRAL**2))
    of_background, agreement = border, np.float32(0)
    for _ in range(_ROUNDS):
        ratio = np.log((_histogram(bins, of_object) + _NEVER_SEEN) / (_histogram(bins, of_background) + _NEVER_SEEN))
        evidence = _EVIDENCE * np.clip(ratio[bins], -_MOST_EVIDENCE, _MOST_EVIDENCE)
        of_object = np.clip(smooth(1 / (1 + np.exp(-evidence - agreement))), 0, 1)
        agreement = 2 * of_object - 1
        of_background = border + _INNER * (1 - of_object)
    return of_object


def _level(colours: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Takes uneven light off: the quadratic surface that is nearest to most of the border, but for its mean."""
    surface = surfaces.paraboloid(colours, border, _STIFFNESS).colours
    return np.clip(colours - surface + surface[border].mean(0), 0, 1)


def _bins(colours: np.ndarray) -> np.ndarray:
    """The place of each pixel in a histogram of luma and the two differences from it, i[h, w]."""
    luma = colours @ LUMA
    blue, red = (0.5 + (colours[..., channel] - luma) / (2 * _CHROMA_REACH) for channel in (2, 0))
    levels = [np.clip(_BINS * values, 0, _BINS - 1).astype(np.intp) for values in (luma, blue, red)]
    return np.ravel_multi_index(levels, (_BINS,) * 3)


def _histogram(bins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The distribution of weights over colours, f[_BINS ** 3]."""
    counts = np.bincount(bins.ravel(), weights.ravel(), _BINS**3).reshape((_BINS,) * 3)
    blurred = ndimage.gaussian_filter(counts, _BLUR, mode="constant").ravel()
    return blurred / max(blurred.sum(), _NEVER_SEEN)


def _guided_by(guide: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A filter that averages f[h, w] but not across the edges of a guide f[h, w]."""

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, 2 * _RADIUS + 1, mode="nearest")

    middle = mean(guide)
    variance = mean(guide * guide) - middle * middle

    def smooth(values: np.ndarray) -> np.ndarray:
        average = mean(values)
        slope = (mean(guide * values) - middle * average) / (variance + _SMOOTH)
        return mean(slope) * guide + mean(average - slope * middle)

    return smooth
