"""Removes differently lit background from an object's mask: reflections of lamps, and shadows that fade.

No such colour occurs along the picture's edges, so segmentation by colour assigns it to the object. But it fades
towards the background, and stops abruptly where the object begins.
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from fmnist_jax.data import surfaces
from fmnist_jax.data.colour_models import resize, shrink

_BLUR = 1.0  # pixels, to smooth noise and the texture of cloth
_REACH = 2  # pixels on either side of an edge from which its contrast is measured
_LEVELS = 64  # of the histogram that Otsu's threshold divides
_MAX_CONTRAST_RATIO = 0.15  # share of the contrast with the object: what differs less from the background is background
_MIN_OBJECT_CONTRAST = 0.12  # share of the range of colours: a lower contrast with the object is no evidence
_MIN_PATCH_RATIO = 0.03  # share of the object's area that a patch has, at least
_MAX_PATCH_RATIO = 0.6  # share of the object's area that one patch has, and all together, at most
_MIN_RIM = 4  # pixels, the least along which two regions must meet
_MIN_PIXELS = 4  # pixels; fewer are not divided into two colours
_ROUNDS = 3
_NEIGHBOURHOOD = np.ones((3, 3))


def remove_patches(colours: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Removes from an object the patches that fade into the background.

    Args:
      colours: f32[h, w, 3] in [0, 1].
      mask: bool[h, w].

    Returns:
      The mask without them, bool[h, w].
    """
    small = ndimage.gaussian_filter(shrink(colours), (_BLUR, _BLUR, 0))
    remaining = resize(mask, small.shape[:2]) > 0.5
    patches, max_area = np.zeros_like(remaining), _MAX_PATCH_RATIO * np.count_nonzero(remaining)
    for _ in range(_ROUNDS):
        found = _fading_patches(small, remaining)
        patches |= found
        remaining &= ~found
        if not found.any():
            break
    if not 0 < np.count_nonzero(patches) < max_area:
        return mask
    return mask & ~(resize(patches, mask.shape, Image.Resampling.BILINEAR) > 0.5)


def _fading_patches(colours: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The parts of either of an object's two main colours that fade into the background, bool[h, w]."""
    found = np.zeros_like(mask)
    for side in _two_colours(colours, mask):
        # The opening separates parts that are joined by a single pixel.
        labels, count = ndimage.label(ndimage.binary_opening(side, _NEIGHBOURHOOD), _NEIGHBOURHOOD)
        areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        is_patch = (areas > _MIN_PATCH_RATIO * mask.sum()) & (areas < _MAX_PATCH_RATIO * mask.sum())
        for label in 1 + np.flatnonzero(is_patch):
            patch = ndimage.binary_dilation(labels == label, _NEIGHBOURHOOD) & side
            window = _box(patch)
            patch, object_mask = patch[window], mask[window]
            object_contrast = _contrast(colours[window], patch, object_mask & ~patch)
            if (
                object_contrast > _MIN_OBJECT_CONTRAST
                and _contrast(colours[window], patch, ~object_mask) < _MAX_CONTRAST_RATIO * object_contrast
            ):
                found[window] |= patch
    return found


def _two_colours(colours: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The object's pixels on either side of Otsu's threshold (1979) along the principal axis of its colours."""
    object_colours = colours[mask]
    if len(object_colours) < _MIN_PIXELS:
        return np.zeros_like(mask), np.zeros_like(mask)
    middle = object_colours.mean(0)
    _, axes = np.linalg.eigh((object_colours - middle).T @ (object_colours - middle))
    along = (colours - middle) @ axes[:, -1]
    counts, edges = np.histogram(along[mask], _LEVELS)
    below = np.cumsum(counts)[:-1] / len(object_colours)
    moment = np.cumsum(counts * (edges[1:] + edges[:-1]) / 2)[:-1] / len(object_colours)
    mean = along[mask].mean()
    between_class_variance = (mean * below - moment) ** 2 / np.maximum(below * (1 - below), 1 / len(object_colours))
    dark = along <= edges[1 + int(np.argmax(between_class_variance))]
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
    rim = region & ndimage.binary_dilation(other, _NEIGHBOURHOOD)
    if np.count_nonzero(rim) < _MIN_RIM:
        return float("nan")
    return float(np.median(surfaces.distances(_local_mean(colours, region), _local_mean(colours, other))[rim]))


def _local_mean(colours: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The mean colour of a region's pixels around each pixel, f32[h, w, 3]."""
    weights = region.astype(np.float32)
    size = 2 * _REACH + 1
    sums = ndimage.uniform_filter(colours * weights[..., None], (size, size, 1))
    return sums / np.maximum(ndimage.uniform_filter(weights, size), 1e-6)[..., None]
