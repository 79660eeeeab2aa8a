"""Photos and drawings made to look like the data set's images: cropped, shrunk, centred, bright on black.

Fashion-MNIST was made from shop pictures on a light background: edges within 5 % of the corners' colour trimmed, the
longest edge resized to 28 pixels by dropping rows and columns, sharpened, centred on 28x28, negated, converted to grey
(arXiv:1708.07747, section 2). The same steps are taken here, adapted to what photos have and shop pictures lack: a
background of any colour, noisy, or fading from one side to the other. So a pixel's brightness is the distance of its
colour from the background's: for a grey picture on white that is its negative, on black the picture itself. Resizing
averages by a Lanczos filter instead of dropping pixels, which keeps edges as sharp as sharpening afterwards would.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from fmnist_jax.data import segmentation, silhouettes, skin
from fmnist_jax.data.colour_models import LUMA
from fmnist_jax.data.silhouettes import Doubt, Silhouette

SIZE = 28

_WORKING_EDGE = 320  # pixels; an object a sixth of that long has twice as many as it is shrunk to
_MIN_OBJECT_EDGE = 56  # pixels of an object's longer edge below which it is cropped and prepared again
_MIN_SHORT_EDGE = 32  # pixels of the shorter edge that a long and narrow picture keeps
_MAX_PIXELS = 4 * 320 * 320  # that any picture is shrunk to, at most
_TARGET_LEVEL = 225 / 255  # where the brightest 2 % of an object start, in Fashion-MNIST's median test image
_MAX_CONTRAST = 30.0
_BOX_FILTER = Image.Resampling.BOX
_WHOLE_PICTURE_DOUBTS = ("several objects", "a pair", "a person is in the picture")  # kept, as a crop may not show them


class Frame(NamedTuple):
    """How a data set places a garment on its 28x28 pixels: centred horizontally, and vertically centred or lower."""

    longest_edge: int
    """Length of the garment's longer edge in pixels, in [1, 28]."""
    floor: int
    """Row to which every garment reaches down at least: flat ones stand there; in [0, 28]."""


FRAMES: Mapping[str, Frame] = {
    # Section 2 of the paper.
    "fashion_mnist": Frame(longest_edge=28, floor=0),
    # Medians of 4,000 images: the longest edge of all, and the lower edge of a sneaker or sandal plus one.
    "synthetic": Frame(longest_edge=25, floor=25),
}
"""The frame of each data set, by the name that `DataConfig` gives it."""


class Background(NamedTuple):
    """What was taken for the background of a picture."""

    kind: Literal["light", "dark", "transparent"]
    """Light or dark as the pixels along the border are, unless most of them are transparent."""
    colour: tuple[int, int, int]
    """Red, green and blue in 0..255; for a transparent picture, what it was laid on."""


class Prepared(NamedTuple):
    """A picture as the network sees it, and what was decided on the way."""

    image: np.ndarray
    """u8[28, 28, 1], or of the requested shape."""
    background: Background
    box: tuple[int, int, int, int] | None
    """Left, top, right and bottom of the object in pixels of the picture; None if nothing stands out."""
    contrast: float
    """Factor by which differences from the background were multiplied."""
    doubts: tuple[Doubt, ...] = ()
    """What makes the picture harder than those that a network was trained on."""


def to_dataset_image(pixels: np.ndarray, frame: Frame = FRAMES["fashion_mnist"]) -> Prepared:
    """Finds the object in a picture and draws it as the data set draws its garments.

    Args:
      pixels: u8 or u16 [H, W] or [H, W, C], where C is 1 (grey), 2 (grey, alpha), 3 (colour) or 4 (colour, alpha).
      frame: where to place the object.

    Raises:
      ValueError: `pixels` has another shape or type, or is empty.
    """
    first = _prepare(pixels, frame)
    crop = None if first.box is None else _crop_around(first.box, pixels.shape)
    if crop is None:
        return first
    (rows, columns), second = crop, _prepare(pixels[crop], frame)
    if second.box is None:
        return first
    left, top, right, bottom = second.box
    box = left + columns.start, top + rows.start, right + columns.start, bottom + rows.start
    lasting = (doubt for doubt in first.doubts if doubt in _WHOLE_PICTURE_DOUBTS and doubt not in second.doubts)
    return second._replace(box=box, background=first.background, doubts=(*second.doubts, *lasting))


def _crop_around(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    """A crop around the object, if it is so small that shrinking the whole picture left too little of it; else None."""
    left, top, right, bottom = box
    edge = max(right - left, bottom - top)
    if edge * _WORKING_EDGE >= _MIN_OBJECT_EDGE * max(shape[:2]) or max(shape[:2]) < 2 * _WORKING_EDGE:
        return None
    margin = edge // 2
    rows = slice(max(0, top - margin), min(shape[0], bottom + margin))
    return rows, slice(max(0, left - margin), min(shape[1], right + margin))


def _prepare(pixels: np.ndarray, frame: Frame) -> Prepared:
    colours, alpha = _shrink(pixels)
    colours = _composite(colours, alpha)
    segment = segmentation.segment(colours)
    border = segmentation.border_mask(*alpha.shape)
    background = _describe(segment.background[border], alpha[border])
    if not segment.mask.any():
        return Prepared(np.zeros((SIZE, SIZE, 1), np.uint8), background, None, 1.0)
    garment = silhouettes.extract_garment(segment)
    box = _scale_box(pixels.shape, alpha.shape, _box(garment.mask))
    resized = _resize(_cut_out(garment), frame.longest_edge)
    contrast = _contrast(resized)  # from the resized values, because resizing dims thin lines
    image = _place(contrast * resized, frame.floor)
    has_person = skin.shows_person(colours, segment.mask, border)
    person: tuple[Doubt, ...] = ("a person is in the picture",) if has_person else ()
    small: tuple[Doubt, ...] = ("very small",) if silhouettes.is_small(box) else ()
    return Prepared(image, background, box, contrast, (*garment.doubts, *person, *small))


def to_shape(pixels: np.ndarray, shape: tuple[int, int, int]) -> Prepared:
    """Shrinks the largest central crop of a picture with the images' aspect ratio, and keeps its colours.

    For data sets of images other than garments: no object is looked for, and nothing is negated.

    Args:
      pixels: as for `to_dataset_image`.
      shape: height, width and channels (1: grey; 3: colour) of the images.

    Raises:
      ValueError: `pixels` has another shape or type, or is empty.
    """
    colours, alpha = _shrink(pixels, shortest_edge=max(_MIN_SHORT_EDGE, *shape[:2]))
    border = segmentation.border_mask(*alpha.shape)
    colours = _composite(colours, alpha)
    background = _describe(segmentation.fit_background(colours, border)[border], alpha[border])
    (source_height, source_width), (height, width, channels) = alpha.shape, shape
    rows = max(1, round(min(source_height, source_width * height / width)))
    columns = max(1, round(min(source_width, source_height * width / height)))
    top, left = (source_height - rows) // 2, (source_width - columns) // 2
    box = slice(top, top + rows), slice(left, left + columns)
    planes = (colours @ LUMA)[..., None] if channels == 1 else colours
    resized = [
        np.asarray(Image.fromarray(plane).resize((width, height), _BOX_FILTER))
        for plane in np.moveaxis(planes[box].astype(np.float32), -1, 0)
    ]
    image = np.rint(255 * np.clip(np.stack(resized, -1), 0, 1)).astype(np.uint8)
    return Prepared(image, background, _scale_box(pixels.shape, alpha.shape, box), 1.0)


def thumbnail(pixels: np.ndarray, longest_edge: int) -> np.ndarray:
    """Shrinks a picture, on white or black where it is transparent, to u8[h, w, 3].

    Args:
      pixels: as for `to_dataset_image`.
      longest_edge: the most pixels that h and w may have.
    """
    colours = _composite(*_shrink(pixels, longest_edge, 0))
    return np.rint(255 * colours).astype(np.uint8)


def _shrink(
    pixels: np.ndarray, longest_edge: int = _WORKING_EDGE, shortest_edge: int = _MIN_SHORT_EDGE
) -> tuple[np.ndarray, np.ndarray]:
    """Colours f32[h, w, 3] multiplied by alpha, and alpha f32[h, w], both in [0, 1] and no larger than needed."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    largest = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(pixels.dtype)
    if largest is None or pixels.ndim != 3 or not 1 <= pixels.shape[-1] <= 4 or not pixels.size:
        raise ValueError(
            f"pixels are {pixels.dtype}{list(pixels.shape)}: expected uint8 or uint16 [H, W, C] with C in 1..4"
        )
    height, width = pixels.shape[:2]
    scale = _scale(height, width, longest_edge, shortest_edge)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))

    def shrink(plane: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(plane.astype(np.float32)).resize((width, height), _BOX_FILTER)) / largest

    channels = pixels.shape[-1]
    if channels in (1, 3):
        colours, alpha = [shrink(pixels[..., c]) for c in range(channels)], np.ones((height, width), np.float32)
    else:
        opacity = pixels[..., -1].astype(np.float32) / largest
        colours = [shrink(pixels[..., c] * opacity) for c in range(channels - 1)]
        alpha = shrink(pixels[..., -1])
    return np.broadcast_to(np.stack(colours, axis=-1), (height, width, 3)), alpha


def _scale(height: int, width: int, longest_edge: int, shortest_edge: int) -> float:
    """The factor by which a picture is shrunk, such that a long and narrow one keeps enough pixels across."""
    enough = max(longest_edge / max(height, width), shortest_edge / min(height, width))
    return min(1.0, enough, np.sqrt(_MAX_PIXELS / (height * width)), _MAX_PIXELS / _MIN_SHORT_EDGE / max(height, width))


def _composite(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lays premultiplied colours on white or black, whichever differs more from them."""
    light = colours.mean(-1).sum() > 0.5 * alpha.sum()
    return colours if light else colours + (1 - alpha[..., None])


def _describe(fading: np.ndarray, alpha: np.ndarray) -> Background:
    colour = np.median(fading, axis=0)
    red, green, blue = (int(level) for level in np.rint(255 * colour))
    if np.mean(alpha) < 0.5:
        return Background("transparent", (red, green, blue))
    return Background("light" if colour.mean() >= 0.5 else "dark", (red, green, blue))


def _cut_out(garment: Silhouette) -> np.ndarray:
    """The garment alone, turned to lie as it should, f[h, w]; everything around it is 0."""
    # A margin of one pixel around the mask keeps the edges soft.
    masked = np.where(ndimage.binary_dilation(garment.mask, np.ones((3, 3))), garment.brightness, 0)
    box = _box(garment.mask)
    if not garment.rotation:
        return masked[box]
    own = np.where(garment.mask, masked, 0)[box].astype(np.float32)
    turned = Image.fromarray(own).rotate(garment.rotation, Image.Resampling.BILINEAR, expand=True)
    return np.asarray(turned)[_box(np.asarray(turned) > 0)]


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = ndimage.find_objects(mask.astype(np.uint8))[0]
    return rows, columns


def _resize(values: np.ndarray, longest_edge: int) -> np.ndarray:
    scale = longest_edge / max(values.shape)
    height, width = (max(1, round(edge * scale)) for edge in values.shape)
    image = Image.fromarray(values.astype(np.float32))
    # The filter overshoots at edges, also below zero.
    return np.maximum(np.asarray(image.resize((width, height), Image.Resampling.LANCZOS)), 0)


def _contrast(values: np.ndarray) -> float:
    """The factor that makes an object f[h, w] >= 0 as bright as those of the data set."""
    brightest = float(np.quantile(values[values >= 0.1 * values.max()], 0.98))
    return min(_TARGET_LEVEL / max(brightest, 1e-6), _MAX_CONTRAST)


def _place(values: np.ndarray, floor: int) -> np.ndarray:
    """Places values f[h, w] in [0, 1] on u8[28, 28, 1]; an odd pixel of margin goes to the left, or above."""
    canvas = np.zeros((SIZE, SIZE, 1), np.uint8)
    height, width = values.shape
    left, top = (SIZE - width + 1) // 2, max((SIZE - height + 1) // 2, floor - height)
    canvas[top : top + height, left : left + width, 0] = np.rint(255 * np.clip(values, 0, 1))
    return canvas


def _scale_box(shape: tuple[int, ...], shrunk: tuple[int, ...], box: tuple[slice, slice]) -> tuple[int, int, int, int]:
    (rows, columns), (down, across) = box, (full / small for full, small in zip(shape, shrunk, strict=False))
    return int(columns.start * across), int(rows.start * down), round(columns.stop * across), round(rows.stop * down)
