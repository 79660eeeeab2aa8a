import numpy as np
import pytest
from scipy import ndimage

from fmnist_jax.data.lighting import remove_patches

Y, X = np.mgrid[:180, :240].astype(np.float32)
FLOOR = np.array([0.6, 0.45, 0.3], np.float32)
BLUE = np.array([0.1, 0.15, 0.4], np.float32)
SHIRT = (np.abs(X - 110) < 40) & (np.abs(Y - 90) < 50)


def lit_shirt(light: float, softness: float, shirt: np.ndarray = SHIRT) -> tuple[np.ndarray, np.ndarray]:
    """A shirt on a floor with a patch of other light to its right: the picture, and the mask of the patch."""
    patch = (np.abs(X - 150) < 35) & (np.abs(Y - 90) < 40) & ~shirt
    shade = ndimage.gaussian_filter(np.where(np.abs(X - 150) < 35, np.abs(Y - 90) < 40, False).astype(float), softness)
    floor = FLOOR * (1 + light * shade[..., None]).astype(np.float32)
    return np.where(shirt[..., None], BLUE, floor), patch


@pytest.mark.parametrize("light", [0.5, -0.5], ids=["brighter", "darker"])
def test_patch_that_fades_into_the_background_is_removed(light: float) -> None:
    colours, patch = lit_shirt(light, softness=22)
    kept = remove_patches(colours, SHIRT | patch)
    assert kept[SHIRT].mean() > 0.97
    assert kept[patch].mean() < 0.15


def test_patch_with_sharp_edges_is_kept() -> None:
    colours, patch = lit_shirt(0.5, softness=0.1)
    mask = SHIRT | patch
    np.testing.assert_array_equal(remove_patches(colours, mask), mask)


def test_patch_similar_to_the_object_is_kept() -> None:
    colours, patch = lit_shirt(0.5, softness=22)
    pale = np.where(SHIRT[..., None], FLOOR * 1.35, colours)
    mask = SHIRT | patch
    np.testing.assert_array_equal(remove_patches(pale, mask), mask)


def test_print_within_the_object_is_kept() -> None:
    colours, patch = lit_shirt(0.5, softness=22)
    printed = (np.abs(X - 100) < 18) & (np.abs(Y - 90) < 22)
    colours = np.where(printed[..., None], np.float32(0.9), colours)
    kept = remove_patches(colours, SHIRT | patch)
    assert kept[printed].all()
    np.testing.assert_array_equal(remove_patches(colours, SHIRT), SHIRT)


@pytest.mark.parametrize(("left", "patch_is_kept"), [(70, False), (130, True)])
def test_patch_is_kept_if_it_is_most_of_the_object(left: int, patch_is_kept: bool) -> None:
    shirt = SHIRT & (left < X)
    colours, patch = lit_shirt(0.5, softness=22, shirt=shirt)
    kept = remove_patches(colours, shirt | patch)
    assert kept[shirt].mean() > 0.95
    assert kept[patch].all() == patch_is_kept


def test_brighter_and_darker_patches_are_both_removed() -> None:
    brighter, right = lit_shirt(0.5, softness=22)
    darker, left = lit_shirt(-0.5, softness=22)
    colours = np.where((X > 110)[..., None], brighter, darker[:, ::-1][:, np.r_[20:240, 0:20]])
    left = left[:, ::-1][:, np.r_[20:240, 0:20]] & (X < 110) & ~SHIRT
    kept = remove_patches(colours, SHIRT | left | right)
    assert kept[SHIRT].mean() > 0.95
    assert kept[left | right].mean() < 0.15


@pytest.mark.parametrize("pixels", [0, 1, 5])
def test_nearly_empty_mask_is_unchanged(pixels: int) -> None:
    colours = lit_shirt(0.5, 22)[0][60:120, 70:150]
    mask = np.zeros(colours.shape[:2], bool)
    mask[30, :pixels] = True
    np.testing.assert_array_equal(remove_patches(colours, mask), mask)
