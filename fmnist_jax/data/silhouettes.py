"""Turns what was found in a picture into the one garment that the data set would show, and lists doubts about it."""

from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from fmnist_jax.data import postures, shoe_pairs
from fmnist_jax.data.segmentation import Segment, connected_components, shrink_mask

Doubt = Literal[
    "background not plain",
    "several objects",
    "a pair",
    "outline",
    "on its side",
    "a person is in the picture",
    "very small",
    "cut off",
]
"""What makes a picture harder than those that a network was trained on."""

_OUTLINE = 0.5  # share of its filled area: a mask that covers less is an outline
_GAP = 2  # coarse pixels on either side by which gaps of a hand-drawn outline are closed
_MIN_AREA_RATIO = 0.5  # share of the largest part's area: anything larger is an object of its own
_MAX_OVERLAP = 0.5  # of the narrower part's width: parts that overlap more, one above the other, are one garment
_SMALL = 28  # pixels of the longer edge in the picture; the image has as many
_CUT = 0.5  # share of an edge of the picture: an object that covers more of two edges extends beyond them


class Silhouette(NamedTuple):
    """A garment."""

    mask: np.ndarray
    """bool[h, w]."""
    brightness: np.ndarray
    """f32[h, w] in [0, 1]."""
    rotation: float
    """Degrees counter-clockwise by which to turn it, so that it lies as those of the data set do."""
    doubts: tuple[Doubt, ...]


def extract_garment(segment: Segment) -> Silhouette:
    """Fills an outline, takes the largest of several objects, and turns a tilted long garment upright.

    Args:
      segment: with a mask that is not empty.
    """
    mask, brightness, turned = segment.mask, segment.brightness, 0.0
    doubts: list[Doubt] = [] if segment.plain else ["background not plain"]
    filled = _fill_outline(mask)
    if mask.sum() < _OUTLINE * filled.sum():
        brightness = np.where(filled & ~mask, np.median(brightness[mask]), brightness)
        mask = filled
        doubts.append("outline")
    pair = shoe_pairs.find_pair(mask)
    if pair is not None:
        mask, turned = pair
        doubts.append("a pair")
    else:
        if (largest := _largest_side_by_side(mask)) is not None:
            mask = largest
            doubts.append("several objects")
        turned = postures.turn_upright(shrink_mask(mask, 0.5))
        if abs(turned) > postures.MAX_CERTAIN_TURN:
            doubts.append("on its side")
    if _covered_edges(mask) >= 2:
        doubts.append("cut off")
    return Silhouette(mask, brightness, turned, tuple(doubts))


def is_small(box: tuple[int, int, int, int]) -> bool:
    """Whether an object's longer edge in the picture (left, top, right, bottom) has fewer pixels than the image's."""
    left, top, right, bottom = box
    return max(right - left, bottom - top) < _SMALL


def _fill_outline(mask: np.ndarray) -> np.ndarray:
    """The mask with what it encloses, even if its outline has small gaps."""
    wide = np.pad(shrink_mask(mask, 0.0), _GAP + 1)
    closed = ndimage.maximum_filter(wide, 2 * _GAP + 1)
    labels, _ = ndimage.label(~closed)
    outside = labels == labels[0, 0]
    # Erosion undoes the dilation; the mask itself is added below.
    inside = ndimage.minimum_filter(~outside, 2 * _GAP + 1)[_GAP + 1 : -_GAP - 1, _GAP + 1 : -_GAP - 1]
    return mask | np.asarray(Image.fromarray(inside).resize(mask.shape[::-1]))


def _largest_side_by_side(mask: np.ndarray) -> np.ndarray | None:
    """The largest of several parts that lie side by side; None if there is only one."""
    labels, areas = connected_components(mask)
    largest = int(np.argmax(areas))
    own = _columns(labels == largest)
    for other in np.flatnonzero(areas > _MIN_AREA_RATIO * areas[largest]):
        left, right = _columns(labels == other)
        shared = min(own[1], right) - max(own[0], left)
        if other != largest and shared < _MAX_OVERLAP * min(own[1] - own[0], right - left):
            return labels == largest
    return None


def _columns(mask: np.ndarray) -> tuple[int, int]:
    _, columns = ndimage.find_objects(mask.astype(np.uint8))[0]
    return columns.start, columns.stop


def _covered_edges(mask: np.ndarray) -> int:
    """How many edges of the picture the object mostly covers."""
    return sum(float(edge.mean()) > _CUT for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
