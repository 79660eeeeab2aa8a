"""Pairs of shoes, detected from a mask alone: two long, parallel parts of similar size, apart or touching.

A mask of touching shoes is notched at both ends of the line between them, by round toes at one and heels at the other,
and either side of the line is nearly convex. Trouser legs leave a notch at one end only, and so does a neckline. Tops
with spread sleeves are notched at both ends, but their halves are dented. Of 23 photos of shoes, most of them pairs, 15
are detected; of 95 photos of single garments none is taken for a pair, and of 1,000 training images of Fashion-MNIST,
the first 100 of each class, 6 are, four of them pullovers.
"""

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull

from fmnist_jax.data import postures
from fmnist_jax.data.segmentation import connected_components, shrink_mask

_MIN_AREA_RATIO = 0.5  # share of the larger part's area: anything smaller is not the other shoe of a pair
_MIN_ELONGATION = 1.9  # least ratio of the axes of a shoe seen from above; sleeves and halves of shirts have less
_MAX_ANGLE_DIFFERENCE = 30.0  # degrees between the axes of two shoes of a pair, at most
_MAX_HORIZONTAL_ANGLE = 30.0  # degrees up to which separate parts lie one above the other, as sleeves do
_MAX_EROSIONS = 3  # erosions of a mask by one pixel, at most, until the shoes are apart
_MIN_TOUCHING_ELONGATION = 1.85  # the same ratio for one of two that touch, of which only the outer side is seen
_MIN_SOLIDITY = 0.88  # least share of its hull that such a shoe fills; half a top with a sleeve fills up to 0.88
_DIRECTIONS = 24  # of the lines that are tried as dividing a mask
_OFFSETS = (-0.02, 0.0, 0.02)  # shares of a mask's longer edge, from its middle to such a line
_MIN_NOTCH_RATIO = 0.037  # least share of the line that is empty at either end; one end has less between other halves


def find_pair(mask: np.ndarray) -> tuple[np.ndarray, float] | None:
    """The larger shoe of a pair, and its direction; None if there is no pair.

    Args:
      mask: bool[h, w].

    Returns:
      A part of the mask, bool[h, w], and degrees clockwise from the horizontal.
    """
    small = shrink_mask(mask, 0.5)
    if not small.any():
        return None
    apart = _separate_halves(small)
    halves = apart or _touching_halves(small)
    if halves is None:
        return None
    larger, smaller = sorted(halves, key=np.count_nonzero, reverse=True)
    _, angle = postures.principal_axis(larger)
    if apart and abs(angle) <= _MAX_HORIZONTAL_ANGLE:
        return None
    to_larger, to_smaller = (ndimage.distance_transform_edt(~half) for half in (larger, smaller))
    nearer = np.asarray(Image.fromarray(to_larger <= to_smaller).resize(mask.shape[::-1]))
    return mask & nearer, angle


def _separate_halves(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The two largest parts, once what joins them is eroded."""
    for _ in range(_MAX_EROSIONS + 1):
        labels, areas = connected_components(mask)
        first, second = np.argsort(-areas, kind="stable")[:2] if np.count_nonzero(areas) > 1 else (0, 0)
        if areas[second] > _MIN_AREA_RATIO * areas[first]:
            halves = labels == first, labels == second
            return halves if _are_alike(*halves, _MIN_ELONGATION) else None
        mask = ndimage.binary_erosion(mask, np.ones((3, 3)))
    return None


def _touching_halves(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The two sides of the line whose shallower notch is the deepest."""
    y, x = np.nonzero(mask)
    points = np.stack([x, y], -1) - np.array([np.mean(x), np.mean(y)])
    best, deepest = None, _MIN_NOTCH_RATIO
    for angle in np.linspace(0, np.pi, _DIRECTIONS, endpoint=False):
        along = points @ np.array([np.cos(angle), np.sin(angle)])
        aside = points @ np.array([-np.sin(angle), np.cos(angle)])
        for offset in _OFFSETS:
            from_line = aside - offset * max(mask.shape)
            notch = _shallower_notch(along, from_line)
            if notch < deepest:
                continue
            left = np.zeros_like(mask)
            left[y, x] = from_line < 0
            halves = left, mask & ~left
            if _are_alike(*halves, _MIN_TOUCHING_ELONGATION) and min(map(_solidity, halves)) >= _MIN_SOLIDITY:
                best, deepest = halves, notch
    return best


def _shallower_notch(along: np.ndarray, from_line: np.ndarray) -> float:
    """The share of a line that is empty at its less notched end.

    Args:
      along: f[N], the position of each pixel of a mask along the line.
      from_line: f[N], its signed distance from the line.
    """
    sides = along[from_line < 0], along[from_line >= 0]
    if min(map(len, sides)) == 0:
        return 0.0
    low = max(side.min() for side in sides)
    high = min(side.max() for side in sides)
    on_line = along[(np.abs(from_line) <= 1) & (along >= low) & (along <= high)]
    if high <= low or not len(on_line):
        return 0.0
    return float(min(on_line.min() - low, high - on_line.max()) / (high - low))


def _are_alike(first: np.ndarray, second: np.ndarray, min_elongation: float) -> bool:
    """Whether two parts are of similar size, long and parallel."""
    areas = np.count_nonzero(first), np.count_nonzero(second)
    (length, angle), (other_length, other_angle) = postures.principal_axis(first), postures.principal_axis(second)
    apart = abs((angle - other_angle + 90) % 180 - 90)
    are_long = min(length, other_length) >= min_elongation
    return bool(min(areas) > _MIN_AREA_RATIO * max(areas) and are_long and apart <= _MAX_ANGLE_DIFFERENCE)


def _solidity(part: np.ndarray) -> float:
    """The share of its convex hull that a non-empty part fills."""
    pixels = np.argwhere(part)
    corners = np.concatenate([np.add(pixels, (down, right)) for down in (0, 1) for right in (0, 1)])
    return float(len(pixels) / ConvexHull(corners).volume)
