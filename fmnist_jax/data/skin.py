"""Whether a person is in a picture: skin at an object's outline, with a background and a garment of other colours."""

import numpy as np
from scipy import ndimage

from fmnist_jax.data.segmentation import connected_components

_STEP = 2  # pixels from one sample to the next: heads and arms are larger
_MIN_SKIN_RATIO = 0.03  # share of the object's pixels: hands and a neck
_MAX_SKIN_RATIO = 0.6  # share of the object's pixels: beyond that, the object itself is skin-coloured
_MAX_BACKGROUND_SKIN = 0.05  # share of the border's pixels: on skin-coloured wood and sand, skin tells nothing
_MIN_LARGEST_PART = 0.25  # least share of the skin in its largest part: a face, an arm or a leg, and not a pattern
_MIN_OUTER_OUTLINE = 0.4  # least share of its outline on the object's own: skin ends the object, prints lie inside it


def is_skin(colours: np.ndarray) -> np.ndarray:
    """Pixels that have the colour of skin in daylight.

    A rule derived from photos of faces: Kovac, Peer and Solina, "Human skin color clustering for face detection"
    (EUROCON 2003). It also takes wood, sand and many reds and browns for skin.

    Args:
      colours: f32[..., 3] in [0, 1].
    """
    red, green, blue = (255 * colours[..., channel] for channel in range(3))
    spread = colours.max(-1) - colours.min(-1)
    bright = (red > 95) & (green > 40) & (blue > 20)
    return bright & (255 * spread > 15) & (red - green > 15) & (red > blue)


def shows_person(colours: np.ndarray, mask: np.ndarray, border: np.ndarray) -> bool:
    """Whether parts of an object are most likely somebody's skin.

    Wrongly true for one of 79 photos of unworn garments and shoes, on which the limits were chosen, and for none of
    39 others. Whether it is true for worn ones was tested on drawings only.

    Args:
      colours: f32[h, w, 3] in [0, 1].
      mask: bool[h, w], the object.
      border: bool[h, w], where the background shows.
    """
    colours, mask, border = (each[::_STEP, ::_STEP] for each in (colours, mask, border))
    background = border & ~mask
    if not background.any() or is_skin(colours[background]).mean() > _MAX_BACKGROUND_SKIN:
        return False
    skin_mask = ndimage.binary_opening(is_skin(colours) & mask, np.ones((3, 3)))
    if not _MIN_SKIN_RATIO <= skin_mask.sum() / max(mask.sum(), 1) <= _MAX_SKIN_RATIO:
        return False
    labels, areas = connected_components(skin_mask)
    part = labels == int(np.argmax(areas))
    outline = ndimage.binary_dilation(part, np.ones((3, 3))) & ~part
    return bool(areas.max() >= _MIN_LARGEST_PART * areas.sum() and np.mean(~mask[outline]) >= _MIN_OUTER_OUTLINE)
