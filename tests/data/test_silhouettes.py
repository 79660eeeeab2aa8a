import numpy as np
import pytest

from fmnist_jax.data.segmentation import Segment
from fmnist_jax.data.silhouettes import Silhouette, extract_garment, is_small

Y, X = np.mgrid[:200, :240]


def silhouette_of(mask: np.ndarray, plain: bool = True) -> Silhouette:
    return extract_garment(
        Segment(mask, np.where(mask, 0.6, 0.0).astype(np.float32), np.zeros((*mask.shape, 3)), plain)
    )


def ellipse(x: float, y: float, across: float, down: float) -> np.ndarray:
    return ((X - x) / across) ** 2 + ((Y - y) / down) ** 2 < 1


def test_single_garment_is_unchanged() -> None:
    mask = ellipse(120, 100, 50, 80)
    silhouette = silhouette_of(mask)
    np.testing.assert_array_equal(silhouette.mask, mask)
    assert (silhouette.rotation, silhouette.doubts) == (0, ())
    assert silhouette_of(mask, plain=False).doubts == ("background not plain",)


@pytest.mark.parametrize("gap", [0, 6])
def test_outline_is_filled_even_with_a_gap(gap: int) -> None:
    outline = ellipse(120, 100, 50, 80) & ~ellipse(120, 100, 46, 76)
    outline[:100, 118 : 118 + gap] = False
    silhouette = silhouette_of(outline)
    assert silhouette.doubts == ("outline",)
    assert silhouette.mask[100, 120]
    assert silhouette.brightness[100, 120] == pytest.approx(0.6)
    assert (silhouette.mask != ellipse(120, 100, 50, 80)).mean() < 0.02
    assert not silhouette.brightness[5, 5]


def test_hole_of_a_thick_ring_is_kept() -> None:
    ring = ellipse(120, 100, 60, 80) & ~ellipse(120, 100, 30, 40)
    silhouette = silhouette_of(ring)
    assert not silhouette.mask[100, 120]
    assert silhouette.doubts == ()


@pytest.mark.parametrize("bridge", [False, True])
def test_larger_of_a_pair_is_kept_and_laid_flat(bridge: bool) -> None:
    left, right = ellipse(80, 100, 25, 70), ellipse(140, 100, 27, 72)
    mask = left | right
    mask[98:101, 80:140] |= bridge
    silhouette = silhouette_of(mask)
    assert silhouette.doubts == ("a pair",)
    assert abs(silhouette.rotation) == pytest.approx(90, abs=2)
    assert silhouette.mask[100, 140]
    assert not silhouette.mask[100, 80]


def test_long_garment_is_turned_upright_and_reported_as_on_its_side() -> None:
    legs = (np.abs(Y - 100) < 30) & (np.abs(X - 120) < 90) & ~((np.abs(Y - 100) < 6) & (X > 90))
    silhouette = silhouette_of(legs)
    assert silhouette.rotation == pytest.approx(-90, abs=1)
    assert silhouette.doubts == ("on its side",)
    np.testing.assert_array_equal(silhouette.mask, legs)


def test_largest_of_several_objects_is_kept() -> None:
    silhouette = silhouette_of(ellipse(50, 100, 40, 45) | ellipse(170, 100, 50, 50))
    assert silhouette.doubts == ("several objects",)
    assert not silhouette.mask[100, 50]
    assert silhouette.mask[100, 170]


def test_vertically_stacked_parts_are_one_garment() -> None:
    silhouette = silhouette_of(ellipse(120, 50, 40, 40) | ellipse(120, 145, 45, 45))
    assert silhouette.doubts == ()
    assert silhouette.mask[50, 120]
    assert silhouette.mask[145, 120]


def test_object_covering_the_edges_is_reported_as_cut_off() -> None:
    mask = np.zeros(X.shape, bool)
    mask[:, 30:200] = True
    assert silhouette_of(mask).doubts == ("cut off",)


def test_box_is_small_if_its_longer_edge_is_below_28_pixels() -> None:
    assert is_small((10, 10, 37, 30))
    assert not is_small((10, 10, 38, 30))
