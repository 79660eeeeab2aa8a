"""Ten classes of garment silhouettes drawn from a seed: a data set for demos, tests and pictures.

Each garment is a union of a few shapes given as signed distances (negative inside), evaluated for all images
of a class at once. Poses, proportions, cloth, noise and occlusion vary; sleeve lengths, collars and openings
of the upper-body garments overlap between classes, so that shirt, T-shirt, pullover and coat are confused
as people confuse them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

SIZE = 28
_PIXEL = 2.0 / SIZE

Field = np.ndarray
"""f64[N, 28, 28], or f64[N, 1, 1] for one number per image; in float32, sines would differ between processors."""

Point = tuple[Field | float, Field | float]


@dataclass(frozen=True)
class _Canvas:
    """Coordinates of every pixel in the garment's own frame: x to the right, y down, both roughly in [-1, 1]."""

    rng: RandomState
    count: int
    x: Field
    y: Field

    def uniform(self, low: float, high: float) -> Field:
        """Draws one number per image."""
        return self.rng.uniform(low, high, (self.count, 1, 1))

    def chance(self, probability: float) -> Field:
        """Draws one boolean per image."""
        return self.rng.uniform(size=(self.count, 1, 1)) < probability


@dataclass(frozen=True)
class _Garment:
    """An outline, and details that darken the cloth inside it."""

    outline: Field
    """Signed distance."""
    details: Field
    """Share of the brightness that a detail takes away, in [0, 1]."""


def draw(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a class-balanced data set in random order: the same bits for the same arguments.

    Args:
      size: N.
      seed: in [0, 2**32).

    Returns:
      Images u8[N, 28, 28, 1] and labels i32[N] in 0..9, with the class order of Fashion-MNIST.
    """
    # The stream of RandomState is frozen for ever (NEP 19); that of numpy.random.Generator is not.
    rng = RandomState(seed)
    labels = (rng.permutation(size) % len(_GARMENTS)).astype(np.int32)
    images = np.zeros((size, SIZE, SIZE, 1), np.uint8)
    for label, garment in enumerate(_GARMENTS):
        indices = np.flatnonzero(labels == label)
        images[indices, :, :, 0] = _render(rng, len(indices), garment)
    return images, labels


def _render(rng: RandomState, count: int, garment: Callable[[_Canvas], _Garment]) -> np.ndarray:
    canvas = _pose(rng, count)
    drawn = garment(canvas)
    cover = np.clip(0.5 - drawn.outline / _PIXEL, 0, 1)
    cloth = _cloth(canvas) * (1 - np.clip(drawn.details, 0, 1))
    cloth = np.where(_occluded(canvas), canvas.uniform(0.0, 0.5), cloth)
    noise = rng.standard_normal((count, SIZE, SIZE)) * canvas.uniform(0.02, 0.12)
    return (np.clip(cover * (cloth + noise), 0, 1) * 255).astype(np.uint8)


def _pose(rng: RandomState, count: int) -> _Canvas:
    """Turns, scales, shears and bends the pixel grid, each image by its own amounts."""
    axis = (np.arange(SIZE) + 0.5) * _PIXEL - 1
    upright = _Canvas(rng, count, axis[None, None, :], axis[None, :, None])
    angle, shear = upright.uniform(-0.18, 0.18), upright.uniform(-0.1, 0.1)
    x, y = upright.x - upright.uniform(-0.1, 0.1), upright.y - upright.uniform(-0.1, 0.1)
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    x, y = (x + shear * y) / upright.uniform(0.9, 1.2), y / upright.uniform(0.95, 1.15)
    bend = upright.uniform(-0.06, 0.06) * np.sin(upright.uniform(2, 5) * y + upright.uniform(0, 6))
    return _Canvas(rng, count, x + bend, y)


def _cloth(c: _Canvas) -> Field:
    """Brightness of the cloth: a base tone with folds, and stripes or a print on some."""
    folds = np.sin(c.uniform(3, 9) * c.x + c.uniform(-4, 4) * c.y + c.uniform(0, 6))
    tone = c.uniform(0.35, 0.95) * (1 + c.uniform(0.0, 0.25) * folds)
    angle, pitch = c.uniform(-0.3, 1.8), c.uniform(8, 24)
    stripes = np.sign(np.sin(pitch * (np.cos(angle) * c.x + np.sin(angle) * c.y)))
    tone = np.where(c.chance(0.3), tone * (1 + c.uniform(0.05, 0.45) * stripes), tone)
    printed = _ellipse(c, c.uniform(-0.15, 0.15), c.uniform(-0.3, 0.2), c.uniform(0.1, 0.25), c.uniform(0.1, 0.25)) < 0
    return np.where(c.chance(0.3) & printed, tone * c.uniform(0.2, 1.6), tone)


def _occluded(c: _Canvas) -> Field:
    """Covers part of every fourth image with a box."""
    box = _box(c, c.uniform(-0.8, 0.8), c.uniform(-0.8, 0.8), c.uniform(0.1, 0.35), c.uniform(0.1, 0.35))
    return c.chance(0.25) & (box < 0)


def _box(
    c: _Canvas, x: Field | float, y: Field | float, half_width: Field | float, half_height: Field | float
) -> Field:
    return np.maximum(np.abs(c.x - x) - half_width, np.abs(c.y - y) - half_height)


def _ellipse(c: _Canvas, x: Field | float, y: Field | float, a: Field | float, b: Field | float) -> Field:
    return (np.hypot((c.x - x) / a, (c.y - y) / b) - 1) * np.minimum(a, b)


def _taper(c: _Canvas, top: Field | float, bottom: Field | float, wide_top: Field, wide_bottom: Field) -> Field:
    """A symmetric trapezoid, given by the heights of its two edges and their half widths."""
    share = np.clip((c.y - top) / (bottom - top), 0, 1)
    side = np.abs(c.x) - (wide_top + (wide_bottom - wide_top) * share)
    return np.maximum(side, np.maximum(top - c.y, c.y - bottom))


def _limb(x: Field, y: Field, start: Point, end: Point, radius: Field | float) -> Field:
    """All points within `radius` of a segment."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - x0 - along * dx, y - y0 - along * dy) - radius


def _line(distance: Field, darkness: Field | float, half_width: float = 0.04) -> Field:
    """Darkens where a signed distance is near zero."""
    return darkness * np.clip(1.5 - np.abs(distance) / half_width, 0, 1)


def _top(c: _Canvas, sleeve: Field, bottom: Field, neck: Field) -> Field:
    """A torso with two sleeves of length `sleeve` in [0, 1] (1 reaches the wrist) and a neckline of depth `neck`."""
    shoulder, waist = c.uniform(0.4, 0.5), c.uniform(0.36, 0.52)
    torso = _taper(c, -0.72, bottom, shoulder, waist)
    reach = 0.12 + 1.15 * sleeve
    spread = c.uniform(0.18, 0.42) + 0.25 * (1 - sleeve)
    wrist = (shoulder - 0.04 + spread * reach, -0.56 + reach)
    arms = _limb(np.abs(c.x), c.y, (shoulder - 0.12, -0.56), wrist, c.uniform(0.11, 0.16))
    return np.maximum(np.minimum(torso, arms), -_ellipse(c, 0, -0.74, c.uniform(0.14, 0.24), neck))


def _t_shirt(c: _Canvas) -> _Garment:
    outline = _top(c, c.uniform(0.0, 0.42), c.uniform(0.6, 0.85), c.uniform(0.06, 0.26))
    return _Garment(outline, np.zeros_like(outline))


def _trouser(c: _Canvas) -> _Garment:
    gap = c.uniform(0.02, 0.12)
    legs = _taper(c, -0.85, c.uniform(0.7, 0.95), c.uniform(0.26, 0.36), gap + c.uniform(0.18, 0.32))
    crotch = _taper(c, c.uniform(-0.45, -0.2), 1.2, np.zeros_like(gap), gap)
    return _Garment(np.maximum(legs, -crotch), _line(c.y + 0.72, c.uniform(0, 0.5)))


def _pullover(c: _Canvas) -> _Garment:
    bottom = c.uniform(0.55, 0.8)
    outline = _top(c, c.uniform(0.62, 1.0), bottom, c.uniform(0.05, 0.16))
    return _Garment(outline, _line(c.y - bottom + 0.1, c.uniform(0, 0.6)))


def _dress(c: _Canvas) -> _Garment:
    waist = c.uniform(-0.35, 0.0)
    bodice = _taper(c, -0.85, waist + 0.05, c.uniform(0.2, 0.38), c.uniform(0.18, 0.26))
    skirt = _taper(c, waist, c.uniform(0.7, 0.95), c.uniform(0.18, 0.26), c.uniform(0.24, 0.6))
    sleeved = np.where(c.chance(0.35), c.uniform(0.05, 0.7), -0.1)
    arms = _limb(np.abs(c.x), c.y, (0.24, -0.7), (0.3 + 0.25 * sleeved, -0.66 + sleeved), 0.09)
    cut = _ellipse(c, 0, -0.88, c.uniform(0.1, 0.2), c.uniform(0.08, 0.3))
    return _Garment(
        np.maximum(np.minimum(np.minimum(bodice, skirt), arms), -cut), _line(c.y - waist, c.uniform(0, 0.5))
    )


def _coat(c: _Canvas) -> _Garment:
    outline = _top(c, c.uniform(0.68, 1.0), c.uniform(0.65, 0.95), c.uniform(0.08, 0.24))
    opening = _line(c.x + c.uniform(-0.06, 0.06), c.uniform(0.15, 0.9))
    lapels = _line(np.abs(c.x) + 0.5 * (c.y + 0.35), c.uniform(0, 0.5)) * (c.y < -0.2)
    return _Garment(outline, np.maximum(opening, lapels))


def _sandal(c: _Canvas) -> _Garment:
    rise = c.uniform(0.0, 0.6)
    sole = _limb(c.x, c.y, (-0.8, 0.5), (0.75, 0.45 - rise), c.uniform(0.05, 0.11))
    heel = _limb(c.x, c.y, (0.72, 0.45 - rise), (c.uniform(0.62, 0.8), 0.5), c.uniform(0.04, 0.1))
    toe = np.abs(_ellipse(c, c.uniform(-0.5, -0.3), 0.35, c.uniform(0.2, 0.35), c.uniform(0.25, 0.45))) - 0.05
    ankle = np.abs(_ellipse(c, 0.5, 0.2 - rise, c.uniform(0.2, 0.3), c.uniform(0.25, 0.55))) - c.uniform(0.03, 0.07)
    straps = np.maximum(np.minimum(toe, np.where(c.chance(0.7), ankle, 9.0)), c.y - 0.5)
    outline = np.minimum(np.minimum(sole, heel), straps)
    return _Garment(outline, np.zeros_like(outline))


def _shirt(c: _Canvas) -> _Garment:
    sleeve = np.where(c.chance(0.35), c.uniform(0.1, 0.5), c.uniform(0.55, 1.0))
    outline = _top(c, sleeve, c.uniform(0.6, 0.9), c.uniform(0.06, 0.22))
    buttons = _line(c.x, c.uniform(0.0, 0.7), 0.03) * (0.5 + 0.5 * np.sign(np.sin(c.uniform(14, 20) * c.y)))
    collar = _line(np.abs(c.x) + 0.8 * (c.y + 0.52), c.uniform(0.0, 0.6)) * (c.y < -0.45)
    return _Garment(outline, np.maximum(buttons, collar))


def _shoe(c: _Canvas, shaft_top: Field) -> Field:
    """A shoe in profile, its toe to the left, with a shaft that ends at height `shaft_top`."""
    sole = _limb(c.x, c.y, (-0.78, 0.5), (0.75, 0.5), c.uniform(0.05, 0.1))
    toe = _ellipse(c, -0.45, 0.5, c.uniform(0.38, 0.46), c.uniform(0.22, 0.36))
    instep = _limb(c.x, c.y, (-0.45, 0.38), (0.35, c.uniform(0.05, 0.2)), c.uniform(0.14, 0.2))
    heel = _box(c, 0.48, (shaft_top + 0.5) / 2, c.uniform(0.26, 0.34), (0.5 - shaft_top) / 2)
    body = np.minimum(np.minimum(toe, instep), heel)
    return np.minimum(sole, np.maximum(body, c.y - 0.5))


def _sneaker(c: _Canvas) -> _Garment:
    outline = _shoe(c, c.uniform(-0.22, 0.1))
    laces = _line(np.sin(18 * (c.x + 0.4 * c.y)), c.uniform(0, 0.5), 0.3) * (np.abs(c.x + 0.05) < 0.25) * (c.y < 0.3)
    return _Garment(outline, np.maximum(_line(c.y - 0.4, c.uniform(0, 0.7)), laces))


def _bag(c: _Canvas) -> _Garment:
    top = c.uniform(-0.35, 0.1)
    body = _taper(c, top, c.uniform(0.55, 0.8), c.uniform(0.45, 0.75), c.uniform(0.5, 0.8))
    ring = _ellipse(c, c.uniform(-0.1, 0.1), top, c.uniform(0.22, 0.45), c.uniform(0.2, 0.55))
    handle = np.where(c.chance(0.75), np.abs(ring) - c.uniform(0.04, 0.08), 9.0)
    flap = _line(c.y - top - c.uniform(0.1, 0.4), c.uniform(0, 0.6))
    return _Garment(np.minimum(body, np.maximum(handle, c.y - top)), flap)


def _ankle_boot(c: _Canvas) -> _Garment:
    outline = _shoe(c, c.uniform(-0.85, -0.12))
    heel = _box(c, 0.58, 0.58, 0.16, c.uniform(0.06, 0.2))
    return _Garment(np.minimum(outline, heel), _line(c.y - 0.4, c.uniform(0, 0.6)))


_GARMENTS: tuple[Callable[[_Canvas], _Garment], ...] = (
    _t_shirt,
    _trouser,
    _pullover,
    _dress,
    _coat,
    _sandal,
    _shirt,
    _sneaker,
    _bag,
    _ankle_boot,
)
