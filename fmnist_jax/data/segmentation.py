"""Separates the object in a picture from its background, judged by the pixels along the picture's edges.

A plain background, even if noisy or fading, is a smooth surface of colour, and the object is what is far from it.
Planks, cloth and shadows are not plain; there, `colour_models` divides the pixels, and `lighting`
removes from the object any background that is lit differently.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from fmnist_jax.data import colour_models, lighting, surfaces
from fmnist_jax.data.colour_models import LUMA

_BORDER = 0.03  # share of the shorter edge that is taken for background, along each edge
_TRIM = 0.05  # a colour this near to the background's is background; share of the largest distance, as in the paper
_FAINT_TRIM = 0.015  # the same, where nothing stands out further
_NOISE = 6.0  # deviations of the background's own distances that still count as background
_PLAIN = 0.1  # a background with more noise than this share of the largest distance is not plain
_COVERED = 0.3  # share of the border far from the surface: more is not explained by the object covering it
_CURVED = 0.5  # share of a plane's residual below which a curved surface is used instead
_FAINT_RESIDUAL = 0.01  # a plane that fits the border this closely needs no curvature
_EDGE = 2  # pixels over which an edge is blurred
_SHARP = 0.8  # least share of its inner distance that a faint part has near its edge
_SPECK = 0.02  # share of the area of the largest part: anything smaller is dirt
_THIN = 0.008  # share of the longest edge: half the width of a thin line
_COARSE_EDGE = 96  # pixels that masks are shrunk to for judging their shape
_CUT_OFF = 0.25  # share of the square root of its area: a part that touches the edges for longer extends beyond them


class Segment(NamedTuple):
    """What was found in a picture."""

    mask: np.ndarray
    """bool[h, w]: the object; empty if nothing stands out from a plain background."""
    brightness: np.ndarray
    """f32[h, w] in [0, 1]: distance of each pixel from a plain background; else grey, or its negative."""
    background: np.ndarray
    """f32[h, w, 3]: the colour of the background at each pixel."""
    plain: bool
    """Whether one smooth surface of colour explains the border."""


def border_mask(height: int, width: int) -> np.ndarray:
    """The pixels along the edges, bool[height, width]."""
    thickness = max(1, round(_BORDER * min(height, width)))
    border = np.ones((height, width), bool)
    border[thickness : height - thickness, thickness : width - thickness] = False
    return border


def segment(colours: np.ndarray) -> Segment:
    """Finds the object in a picture.

    Args:
      colours: f32[h, w, 3] in [0, 1].
    """
    border = border_mask(*colours.shape[:2])
    background = fit_background(colours, border)
    # Single noisy pixels would raise distances, which are never negative, so noise is averaged out first.
    blur = max(border.shape) / 600
    distance = surfaces.distances(ndimage.gaussian_filter(colours, (blur, blur, 0)), background)
    noise = _noise(distance[border])
    covered_fraction = np.mean(distance[border] > max(_TRIM, noise))
    if noise > _PLAIN or covered_fraction > _COVERED:
        mask = _mask_on_cluttered(colours, border)
        return Segment(mask, _garment_grey(colours, mask), background, plain=False)
    return Segment(_mask_on_plain(distance, noise), distance, background, plain=True)


def _mask_on_plain(distance: np.ndarray, noise: float) -> np.ndarray:
    """What is far from the background's colour."""
    mask = _threshold(distance, max(_TRIM, noise))
    if mask.any():
        mask |= _faint_parts(mask, distance, max(_FAINT_TRIM, noise))
    else:
        mask = _threshold(distance, max(_FAINT_TRIM, noise))
    return _remove_lines(mask)


def _mask_on_cluttered(colours: np.ndarray, border: np.ndarray) -> np.ndarray:
    """What has other colours than the border, and is not the background in another light."""
    mask = _remove_surroundings(_remove_lines(colour_models.segment_by_colour(colours, border)))
    mask = _remove_surroundings(lighting.remove_patches(colours, mask))
    # Such a picture is not blank, so if no part looks like an object, its middle is the best guess.
    return mask if mask.any() else ~border


def fit_background(colours: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Extrapolates the colours of the border inwards, f32[h, w, 3]: as planes, or curved if that fits much better."""
    flat = surfaces.fit_plane(colours, border)
    if flat.residual <= _FAINT_RESIDUAL:
        return flat.colours
    curved = surfaces.fit_paraboloid(colours, border)
    return curved.colours if curved.residual < _CURVED * flat.residual else flat.colours


def _noise(distances: np.ndarray) -> float:
    """The largest distance that is likely to be noise, from those along the border."""
    middle = float(np.median(distances))
    return middle + _NOISE * surfaces.MAD_TO_STD * float(np.median(np.abs(distances - middle)))


def _threshold(distance: np.ndarray, threshold: float) -> np.ndarray:
    """The parts of the picture that are further from the background than a threshold, without specks."""
    labels, areas = connected_components(distance > threshold)
    return (areas > _SPECK * areas.max())[labels]


def _faint_parts(mask: np.ndarray, distance: np.ndarray, threshold: float) -> np.ndarray:
    """Parts that are fainter than the object, touch it and end sharply: sleeves of nearly the background's colour.

    A second, lower threshold, as in hysteresis thresholding (Canny 1986). An object's shadow is as faint, but fades.
    """
    labels, areas = connected_components((distance > threshold) & ~mask)
    touching = np.unique(labels[ndimage.binary_dilation(mask, np.ones((3, 3)))])
    faint = np.zeros_like(mask)
    for label in touching[areas[touching] > _SPECK * mask.sum()]:
        part = labels == label
        inner = ndimage.binary_erosion(part | mask, np.ones((3, 3)), _EDGE)
        rim = part & ~inner & ndimage.binary_dilation(inner, np.ones((3, 3)))
        if rim.any() and np.median(distance[rim]) > _SHARP * np.median(distance[part & inner | rim]):
            faint |= part
    return faint


def connected_components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels the connected parts of a mask from 1, i32[h, w], and counts the pixels of each; the count of 0 is 0."""
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    return labels, areas


def shrink_mask(mask: np.ndarray, share: float) -> np.ndarray:
    """Shrinks a mask to judge its shape; a pixel is set if more than `share` of the pixels it stands for are."""
    height, width = colour_models.fit_size(mask.shape, _COARSE_EDGE)
    mask_image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(mask_image.resize((width, height), Image.Resampling.BOX)) > 255 * share


def _remove_lines(mask: np.ndarray) -> np.ndarray:
    """Removes thin lines that run to the picture's edges, as the gaps between planks or tiles do."""
    reach = round(_THIN * max(mask.shape))
    thick = ndimage.maximum_filter(ndimage.minimum_filter(mask, 2 * reach + 1), 2 * reach + 1)
    labels, areas = connected_components(mask & ~thick)
    lines = np.zeros(len(areas), bool)
    lines[_along_edges(labels)] = True
    lines[0] = False
    remaining = mask & ~lines[labels]
    return remaining if remaining.sum() > _SPECK * mask.sum() else mask


def _along_edges(labels: np.ndarray) -> np.ndarray:
    return np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])


def _remove_surroundings(mask: np.ndarray) -> np.ndarray:
    """Removes specks and, except for the largest part, what the picture's edges cut through, such as furniture."""
    labels, areas = connected_components(mask)
    cut = np.bincount(_along_edges(labels), minlength=len(areas)) > _CUT_OFF * np.sqrt(areas)
    cut[np.argmax(areas)] = False
    return ((areas > _SPECK * areas.max()) & ~cut)[labels]


def _garment_grey(colours: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture in grey, or its negative if the object is darker than what is around it.

    Distance from a multicoloured background does not say what is bright, and Fashion-MNIST has the negative of grey.
    """
    luma = colours @ LUMA
    around = luma[~mask].mean() if not mask.all() else 1.0
    return luma if mask.any() and luma[mask].mean() > around else 1 - luma
