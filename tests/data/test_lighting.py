import numpy as np
import pytest
from scipy import ndimage

from fmnist_jax.data.lighting import remove_patches

Y, X = np.mgrid[:180, :240].astype(np.float32)
FLOOR = np.array([0.6, 0.45, 0.3], np.float32)
BLUE = np.array([0.1, 0.15, 0.4], np.float32)
SHIRT = (np.abs(X - 110) < 40) & (np.abs(Y - 90) < 50)


def lit(light: float, softness: float, shirt: np.ndarray = SHIRT) -> tuple[np.ndarray, np.ndarray]:
    """A shirt on a floor that is in another light on its right: the picture, and the patch that is."""
    patch = (np.abs(X - 150) < 35) & (np.abs(Y - 90) < 40) & ~shirt
    shade = ndimage.gaussian_filter(np.where(np.abs(X - 150) < 35, np.abs(Y - 90) < 40, False).astype(float), softness)
    floor = FLOOR * (1 + light * shade[..., None]).astype(np.float32)
    return np.where(shirt[..., None], BLUE, floor), patch


@pytest.mark.parametrize("light", [0.5, -0.5], ids=["brighter", "darker"])
def test_a_patch_that_fades_into_the_background_is_left_out(light: float) -> None:
    colours, patch = lit(light, softness=22)
    kept = remove_patches(colours, SHIRT | patch)
    assert kept[SHIRT].mean() > 0.97
    assert kept[patch].mean() < 0.15


def test_a_part_that_ends_sharply_is_kept() -> None:
    colours, patch = lit(0.5, softness=0.1)
    both = SHIRT | patch
    np.testing.assert_array_equal(remove_patches(colours, both), both)


def test_a_part_that_is_much_like_the_rest_is_kept() -> None:
    colours, patch = lit(0.5, softness=22)
    pale = np.where(SHIRT[..., None], FLOOR * 1.35, colours)
    both = SHIRT | patch
    np.testing.assert_array_equal(remove_patches(pale, both), both)


def test_a_print_within_the_object_is_kept() -> None:
    colours, patch = lit(0.5, softness=22)
    printed = (np.abs(X - 100) < 18) & (np.abs(Y - 90) < 22)
    colours = np.where(printed[..., None], np.float32(0.9), colours)
    kept = remove_patches(colours, SHIRT | patch)
    assert kept[printed].all()
    np.testing.assert_array_equal(remove_patches(colours, SHIRT), SHIRT)


@pytest.mark.parametrize(("left", "patch_is_kept"), [(70, False), (130, True)])
def test_what_would_be_most_of_the_object_is_kept(left: int, patch_is_kept: bool) -> None:
    shirt = SHIRT & (left < X)
    colours, patch = lit(0.5, softness=22, shirt=shirt)
    kept = remove_patches(colours, shirt | patch)
    assert kept[shirt].mean() > 0.95
    assert kept[patch].all() == patch_is_kept


def test_patches_of_unlike_light_are_found_one_after_the_other() -> None:
    brighter, right = lit(0.5, softness=22)
    darker, left = lit(-0.5, softness=22)
    colours = np.where((X > 110)[..., None], brighter, darker[:, ::-1][:, np.r_[20:240, 0:20]])
    left = left[:, ::-1][:, np.r_[20:240, 0:20]] & (X < 110) & ~SHIRT
    kept = remove_patches(colours, SHIRT | left | right)
    assert kept[SHIRT].mean() > 0.95
    assert kept[left | right].mean() < 0.15


@pytest.mark.parametrize("pixels", [0, 1, 5])
def test_a_mask_of_almost_nothing_stays(pixels: int) -> None:
    colours = lit(0.5, 22)[0][60:120, 70:150]
    mask = np.zeros(colours.shape[:2], bool)
    mask[30, :pixels] = True
    np.testing.assert_array_equal(remove_patches(colours, mask), mask)
