"""Removes differently lit background from an object's mask: reflections of lamps, and shadows that fade.

No such colour occurs along the picture's edges, so segmentation by colour assigns it to the object. But it fades
towards the background, and stops abruptly where the object begins.
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from fmnist_jax.data import surfaces
from fmnist_jax.data.colour_models import resized, shrunk

_BLUR = 1.0  # pixels, to smooth noise and the texture of cloth
_REACH = 2  # pixels on either side of an edge from which its contrast is measured
_LEVELS = 64  # of the histogram that Otsu's threshold divides
_FADES = 0.15  # share of the contrast with the object: what differs less from the background is background
_STOPS = 0.12  # share of the range of colours: a lower contrast with the object is no evidence
_LEAST, _MOST = 0.03, 0.6  # shares of the object's area: the limits for one patch, and the upper one for all together
_RIM = 4  # pixels, the least along which two regions must meet
_FEW = 4  # pixels; fewer are not divided into two colours
_ROUNDS = 3
_AROUND = np.ones((3, 3))


def without_patches(colours: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Removes from an object the patches that fade into the background.

    Args:
      colours: f32[h, w, 3] in [0, 1].
      mask: bool[h, w].

    Returns:
      The mask without them, bool[h, w].
    """
    small = ndimage.gaussian_filter(shrunk(colours), (_BLUR, _BLUR, 0))
    kept = resized(mask, small.shape[:2]) > 0.5
    patches, most = np.zeros_like(kept), _MOST * np.count_nonzero(kept)
    for _ in range(_ROUNDS):
        found = _patches(small, kept)
        patches |= found
        kept &= ~found
        if not found.any():
            break
    if not 0 < np.count_nonzero(patches) < most:
        return mask
    return mask & ~(resized(patches, mask.shape, Image.Resampling.BILINEAR) > 0.5)


def _patches(colours: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The parts of either of an object's two main colours that fade into the background, bool[h, w]."""
    found = np.zeros_like(mask)
    for side in _two_colours(colours, mask):
        # The opening separates parts that are joined by a single pixel.
        labels, count = ndimage.label(ndimage.binary_opening(side, _AROUND), _AROUND)
        areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        for label in 1 + np.flatnonzero((areas > _LEAST * mask.sum()) & (areas < _MOST * mask.sum())):
            patch = ndimage.binary_dilation(labels == label, _AROUND) & side
            near = _box(patch)
            patch, own = patch[near], mask[near]
            stops = _contrast(colours[near], patch, own & ~patch)
            if stops > _STOPS and _contrast(colours[near], patch, ~own) < _FADES * stops:
                found[near] |= patch
    return found


def _two_colours(colours: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The object's pixels on either side of Otsu's threshold (1979) along the principal axis of its colours."""
    own = colours[mask]
    if len(own) < _FEW:
        return np.zeros_like(mask), np.zeros_like(mask)
    middle = own.mean(0)
    _, axes = np.linalg.eigh((own - middle).T @ (own - middle))
    along = (colours - middle) @ axes[:, -1]
    counts, edges = np.histogram(along[mask], _LEVELS)
    below = np.cumsum(counts)[:-1] / len(own)
    moment = np.cumsum(counts * (edges[1:] + edges[:-1]) / 2)[:-1] / len(own)
    whole = along[mask].mean()
    between = (whole * below - moment) ** 2 / np.maximum(below * (1 - below), 1 / len(own))
    dark = along <= edges[1 + int(np.argmax(between))]
    return mask & dark, mask & ~dark


def _box(region: np.ndarray) -> tuple[slice, slice]:
    """The crop of a picture that shows a region with its edges."""
    rows, columns = (np.flatnonzero(region.any(axis)) for axis in (1, 0))
    margin = _REACH + 1
    return (
        slice(max(0, rows[0] - margin), rows[-1] + 1 + margin),
        slice(max(0, columns[0] - margin), columns[-1] + 1 + margin),
    )


def _contrast(colours: np.ndarray, region: np.ndarray, other: np.ndarray) -> float:
    """The median distance of the colours of two regions where they meet; NaN if that is along too few pixels."""
    rim = region & ndimage.binary_dilation(other, _AROUND)
    if np.count_nonzero(rim) < _RIM:
        return float("nan")
    return float(np.median(surfaces.distances(_near(colours, region), _near(colours, other))[rim]))


def _near(colours: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The mean colour of a region's pixels around each pixel, f32[h, w, 3]."""
    weights = region.astype(np.float32)
    size = 2 * _REACH + 1
    sums = ndimage.uniform_filter(colours * weights[..., None], (size, size, 1))
    return sums / np.maximum(ndimage.uniform_filter(weights, size), 1e-6)[..., None]
