import numpy as np
import pytest
from scipy import ndimage

from fmnist_jax.data import colour_models
from fmnist_jax.data.segmentation import border_mask, connected_components, fit_background, segment

Y, X = np.mgrid[-1:1:200j, -1:1:160j].astype(np.float32)
BOX = np.s_[50:150, 40:110]
SQUARES = np.where(((X * 8).astype(int) + (Y * 8).astype(int))[..., None] % 2 == 0, (0.7, 0.4, 0.2), (0.3, 0.5, 0.3))


def true_mask() -> np.ndarray:
    mask = np.zeros(X.shape, bool)
    mask[BOX] = True
    return mask


def with_object(background: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    pixels = np.array(np.broadcast_to(background, (*X.shape, 3)), np.float32)
    pixels[BOX] = colour
    return pixels


def test_brightness_on_a_plain_background_is_the_distance_from_it() -> None:
    result = segment(with_object(np.ones(3, np.float32), (0.2, 0.2, 0.2)))
    assert result.plain
    assert (result.mask != true_mask()).mean() < 0.02
    assert result.brightness[100, 70] == pytest.approx(0.8, abs=1e-3)
    assert result.brightness[5, 5] == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(result.background, 1, atol=1e-3)


def test_vignetting_belongs_to_the_background() -> None:
    shade = (0.9 - 0.2 * X**2 - 0.3 * Y**2)[..., None]
    pixels = with_object(shade, (0.3, 0.1, 0.1))
    result = segment(pixels)
    assert result.plain
    assert (result.mask != true_mask()).mean() < 0.02
    np.testing.assert_allclose(
        fit_background(with_object(shade, (0.3, 0.1, 0.1)), border_mask(*X.shape)), shade + np.zeros(3), atol=1e-2
    )


@pytest.mark.parametrize(("level", "negated"), [(0.1, True), (0.95, False)])
def test_brightness_on_a_patterned_background_is_grey_level_or_negative(level: float, negated: bool) -> None:
    result = segment(with_object(SQUARES, (level, level, level)))
    assert not result.plain
    assert (result.mask != true_mask()).mean() < 0.03
    assert result.brightness[100, 70] == pytest.approx(1 - level if negated else level, abs=1e-3)


def test_objects_cut_by_the_edge_are_left_out_on_a_patterned_background() -> None:
    pixels = with_object(SQUARES, (0.9, 0.9, 0.95))
    pixels[:12, 60:110] = (0.9, 0.9, 0.95)
    assert (segment(pixels).mask != true_mask()).mean() < 0.03


def test_thin_lines_belong_to_the_background_only_if_they_reach_the_edges() -> None:
    pixels = with_object(np.ones(3, np.float32), (0.2, 0.2, 0.4))
    pixels[:, 10::30] = 0.3
    assert (segment(pixels).mask != true_mask()).mean() < 0.005
    hook = with_object(np.ones(3, np.float32), (0.2, 0.2, 0.4))
    hook[30:50, 70:72] = 0.3
    assert segment(hook).mask[35, 70]


def test_mask_on_a_patterned_background_is_never_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour_models, "segment_by_colour", lambda _, border: np.zeros_like(border))
    result = segment(with_object(SQUARES, (0.1, 0.1, 0.1)))
    assert result.mask[100, 70]
    assert not result.mask[0].any()


def test_connected_components_are_labelled_with_their_areas() -> None:
    mask = np.zeros((5, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[4, 3:6] = True
    labels, areas = connected_components(mask)
    assert areas.tolist() == [0, 2, 3]
    assert labels[1, 1] == labels[0, 0] == 1


def _draw_shirt(sleeve_level: int) -> np.ndarray:
    """A dark body with sleeves almost as white as the background, f32[320, 240, 3]."""
    colours = np.ones((320, 240, 3), np.float32)
    colours[100:160, 40:200] = sleeve_level / 255
    colours[100:260, 80:160] = (0.1, 0.2, 0.3)
    return colours


def test_sleeves_of_nearly_the_background_colour_belong_to_the_object() -> None:
    mask = segment(_draw_shirt(247)).mask
    assert mask[130, 60]
    assert mask[130, 180]
    assert mask.sum() == pytest.approx(60 * 160 + 100 * 80, rel=0.08)


def test_shadow_is_not_part_of_the_object() -> None:
    colours = _draw_shirt(255)
    body = np.asarray((colours < 0.9).all(-1))
    shadow = 0.06 * ndimage.gaussian_filter(np.roll(body, (8, 8), (0, 1)).astype(np.float32), 8)
    colours = np.where(body[..., None], colours, colours - shadow[..., None])
    area_without_shadow = segment(_draw_shirt(255)).mask.sum()
    assert segment(colours).mask.sum() == pytest.approx(area_without_shadow, rel=0.12)
