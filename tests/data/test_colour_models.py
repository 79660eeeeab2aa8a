"""Objects on patterned backgrounds, which are drawn so that the true mask is known."""

import numpy as np
import pytest

from fmnist_jax.data import colour_models
from fmnist_jax.data.segmentation import border_mask

SHAPE = (240, 180)
_MIN_IOU = 0.65  # intersection over union: a rim of three of the 96 pixels may be wrong
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]


def planks() -> np.ndarray:
    """Boards of three browns, with dark gaps and grain, f32[h, w, 3]."""
    browns = np.array([(0.62, 0.42, 0.25), (0.52, 0.34, 0.2), (0.7, 0.5, 0.32)])
    pixels = browns[(X // 24) % 3] * (1 - 0.6 * (X % 24 < 2))[..., None]
    return (pixels + np.random.default_rng(0).normal(0, 0.03, (*SHAPE, 1))).clip(0, 1).astype(np.float32)


def cloth() -> np.ndarray:
    """Two colours in squares, lit from the left."""
    squares = np.where(((X // 15 + Y // 15) % 2 == 0)[..., None], (0.8, 0.3, 0.3), (0.85, 0.8, 0.75))
    return (squares * (1 - 0.4 * X / SHAPE[1])[..., None]).astype(np.float32)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("background", [planks(), cloth()])
@pytest.mark.parametrize("colour", [(0.1, 0.15, 0.4), (0.1, 0.1, 0.1), (0.3, 0.7, 0.4)])
@pytest.mark.parametrize("region", [np.s_[60:190, 50:130], np.s_[100:240, 50:130]])
def test_object_is_segmented_even_if_it_touches_the_edge(
    background: np.ndarray, colour: tuple[float, float, float], region: tuple[slice, slice]
) -> None:
    truth = np.zeros(SHAPE, bool)
    truth[region] = True
    pixels = np.where(truth[..., None], colour, background).astype(np.float32)
    assert iou(colour_models.segment_by_colour(pixels, border_mask(*SHAPE)), truth) > _MIN_IOU


def test_multicoloured_print_belongs_to_its_object() -> None:
    truth = np.zeros(SHAPE, bool)
    truth[60:190, 50:130] = True
    printed = np.where(((X + Y) // 8 % 2 == 0)[..., None], (0.1, 0.2, 0.5), (0.9, 0.95, 1.0))
    pixels = np.where(truth[..., None], printed, planks()).astype(np.float32)
    assert iou(colour_models.segment_by_colour(pixels, border_mask(*SHAPE)), truth) > _MIN_IOU


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (5, 7)])
def test_tiny_pictures_are_segmented(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).random((*shape, 3), np.float32)
    mask = colour_models.segment_by_colour(pixels, border_mask(*shape))
    assert mask.shape == shape
    assert mask.dtype == np.bool_


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((480, 640), (72, 96)), ((640, 480), (96, 72)), ((96, 96), (96, 96)), ((5, 7), (5, 7)), ((1, 9000), (1, 96))],
)
def test_fit_size_keeps_proportions_and_at_least_one_pixel(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert colour_models.fit_size(shape, 96) == expected
