import numpy as np
import pytest

from fmnist_jax.data.segmentation import Segment
from fmnist_jax.data.silhouettes import Silhouette, extract_garment, is_small

Y, X = np.mgrid[:200, :240]


def of(mask: np.ndarray, plain: bool = True) -> Silhouette:
    return extract_garment(
        Segment(mask, np.where(mask, 0.6, 0.0).astype(np.float32), np.zeros((*mask.shape, 3)), plain)
    )


def ellipse(x: float, y: float, across: float, down: float) -> np.ndarray:
    return ((X - x) / across) ** 2 + ((Y - y) / down) ** 2 < 1


def test_one_garment_stays_as_it_is() -> None:
    mask = ellipse(120, 100, 50, 80)
    found = of(mask)
    np.testing.assert_array_equal(found.mask, mask)
    assert (found.rotation, found.doubts) == (0, ())
    assert of(mask, plain=False).doubts == ("background not plain",)


@pytest.mark.parametrize("gap", [0, 6])
def test_an_outline_is_filled_also_through_a_gap(gap: int) -> None:
    outline = ellipse(120, 100, 50, 80) & ~ellipse(120, 100, 46, 76)
    outline[:100, 118 : 118 + gap] = False
    found = of(outline)
    assert found.doubts == ("outline",)
    assert found.mask[100, 120]
    assert found.brightness[100, 120] == pytest.approx(0.6)
    assert (found.mask != ellipse(120, 100, 50, 80)).mean() < 0.02
    assert not found.brightness[5, 5]


def test_a_hole_that_is_no_outline_stays() -> None:
    ring = ellipse(120, 100, 60, 80) & ~ellipse(120, 100, 30, 40)
    found = of(ring)
    assert not found.mask[100, 120]
    assert found.doubts == ()


@pytest.mark.parametrize("bridge", [False, True])
def test_of_a_pair_the_larger_is_laid_flat(bridge: bool) -> None:
    left, right = ellipse(80, 100, 25, 70), ellipse(140, 100, 27, 72)
    mask = left | right
    mask[98:101, 80:140] |= bridge
    found = of(mask)
    assert found.doubts == ("a pair",)
    assert abs(found.rotation) == pytest.approx(90, abs=2)
    assert found.mask[100, 140]
    assert not found.mask[100, 80]


def test_a_long_garment_is_stood_up_and_said_to_lie() -> None:
    legs = (np.abs(Y - 100) < 30) & (np.abs(X - 120) < 90) & ~((np.abs(Y - 100) < 6) & (X > 90))
    found = of(legs)
    assert found.rotation == pytest.approx(-90, abs=1)
    assert found.doubts == ("on its side",)
    np.testing.assert_array_equal(found.mask, legs)


def test_of_several_objects_the_largest_is_taken() -> None:
    found = of(ellipse(50, 100, 40, 45) | ellipse(170, 100, 50, 50))
    assert found.doubts == ("several objects",)
    assert not found.mask[100, 50]
    assert found.mask[100, 170]


def test_parts_above_one_another_are_one_garment() -> None:
    found = of(ellipse(120, 50, 40, 40) | ellipse(120, 145, 45, 45))
    assert found.doubts == ()
    assert found.mask[50, 120]
    assert found.mask[145, 120]


def test_what_covers_the_edges_is_cut_off() -> None:
    mask = np.zeros(X.shape, bool)
    mask[:, 30:200] = True
    assert of(mask).doubts == ("cut off",)


def test_small_is_what_has_fewer_pixels_than_the_image() -> None:
    assert is_small((10, 10, 37, 30))
    assert not is_small((10, 10, 38, 30))
