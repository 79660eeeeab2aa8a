import numpy as np
import pytest
from scipy import ndimage

from fmnist_jax.data import colour_models
from fmnist_jax.data.segmentation import border_mask, connected_components, fit_background, segment

Y, X = np.mgrid[-1:1:200j, -1:1:160j].astype(np.float32)
BOX = np.s_[50:150, 40:110]
SQUARES = np.where(((X * 8).astype(int) + (Y * 8).astype(int))[..., None] % 2 == 0, (0.7, 0.4, 0.2), (0.3, 0.5, 0.3))


def truth() -> np.ndarray:
    mask = np.zeros(X.shape, bool)
    mask[BOX] = True
    return mask


def covered(background: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    pixels = np.array(np.broadcast_to(background, (*X.shape, 3)), np.float32)
    pixels[BOX] = colour
    return pixels


def test_on_a_plain_background_brightness_is_the_distance_from_it() -> None:
    found = segment(covered(np.ones(3, np.float32), (0.2, 0.2, 0.2)))
    assert found.plain
    assert (found.mask != truth()).mean() < 0.02
    assert found.brightness[100, 70] == pytest.approx(0.8, abs=1e-3)
    assert found.brightness[5, 5] == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(found.background, 1, atol=1e-3)


def test_the_shade_of_a_lens_is_background() -> None:
    shade = (0.9 - 0.2 * X**2 - 0.3 * Y**2)[..., None]
    pixels = covered(shade, (0.3, 0.1, 0.1))
    found = segment(pixels)
    assert found.plain
    assert (found.mask != truth()).mean() < 0.02
    np.testing.assert_allclose(
        fit_background(covered(shade, (0.3, 0.1, 0.1)), border_mask(*X.shape)), shade + np.zeros(3), atol=1e-2
    )


@pytest.mark.parametrize(("level", "contrary"), [(0.1, True), (0.95, False)])
def test_on_several_colours_the_object_is_bright_in_grey_or_in_its_negative(level: float, contrary: bool) -> None:
    found = segment(covered(SQUARES, (level, level, level)))
    assert not found.plain
    assert (found.mask != truth()).mean() < 0.03
    assert found.brightness[100, 70] == pytest.approx(1 - level if contrary else level, abs=1e-3)


def test_what_the_edges_cut_through_is_left_out_where_the_background_is_not_plain() -> None:
    pixels = covered(SQUARES, (0.9, 0.9, 0.95))
    pixels[:12, 60:110] = (0.9, 0.9, 0.95)
    assert (segment(pixels).mask != truth()).mean() < 0.03


def test_thin_lines_that_run_to_the_edges_are_gaps_of_the_floor() -> None:
    pixels = covered(np.ones(3, np.float32), (0.2, 0.2, 0.4))
    pixels[:, 10::30] = 0.3
    assert (segment(pixels).mask != truth()).mean() < 0.005
    hook = covered(np.ones(3, np.float32), (0.2, 0.2, 0.4))
    hook[30:50, 70:72] = 0.3
    assert segment(hook).mask[35, 70]


def test_a_picture_of_several_colours_is_never_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour_models, "segment_by_colour", lambda _, border: np.zeros_like(border))
    found = segment(covered(SQUARES, (0.1, 0.1, 0.1)))
    assert found.mask[100, 70]
    assert not found.mask[0].any()


def test_parts_are_numbered_and_counted() -> None:
    mask = np.zeros((5, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[4, 3:6] = True
    labels, areas = connected_components(mask)
    assert areas.tolist() == [0, 2, 3]
    assert labels[1, 1] == labels[0, 0] == 1


def _sleeves(faint: int) -> np.ndarray:
    """A dark body with sleeves almost as white as what is behind it, f32[320, 240, 3]."""
    colours = np.ones((320, 240, 3), np.float32)
    colours[100:160, 40:200] = faint / 255
    colours[100:260, 80:160] = (0.1, 0.2, 0.3)
    return colours


def test_sleeves_almost_of_the_backgrounds_colour_belong_to_the_object() -> None:
    found = segment(_sleeves(247)).mask
    assert found[130, 60]
    assert found[130, 180]
    assert found.sum() == pytest.approx(60 * 160 + 100 * 80, rel=0.08)


def test_a_shadow_is_no_part_of_the_object() -> None:
    colours = _sleeves(255)
    body = np.asarray((colours < 0.9).all(-1))
    shadow = 0.06 * ndimage.gaussian_filter(np.roll(body, (8, 8), (0, 1)).astype(np.float32), 8)
    colours = np.where(body[..., None], colours, colours - shadow[..., None])
    without = segment(_sleeves(255)).mask.sum()
    assert segment(colours).mask.sum() == pytest.approx(without, rel=0.12)
