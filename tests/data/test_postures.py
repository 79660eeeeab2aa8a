import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image, ImageDraw

from fmnist_jax.data.postures import MAX_CERTAIN_TURN, principal_axis, turn_upright

TROUSERS = [(-12, -40), (12, -40), (16, 40), (4, 40), (0, -14), (-4, 40), (-16, 40)]
DRESS = [(-8, -40), (-4, -40), (0, -35), (4, -40), (8, -40), (7, -12), (18, 40), (-18, 40), (-7, -12)]
SHOE = [(-40, -2), (-30, -14), (-16, -10), (-6, -14), (10, -4), (34, 2), (40, 10), (38, 16), (-40, 16)]
BAR = [(-40, -10), (40, -10), (40, 10), (-40, 10)]
T_SHIRT = [(-14, -30), (14, -30), (36, -12), (26, -2), (18, -8), (18, 30), (-18, 30), (-18, -8), (-26, -2), (-36, -12)]


def draw_turned(outline: list[tuple[int, int]], degrees: float) -> np.ndarray:
    """A centred, filled outline, turned clockwise: bool[96, 96]."""
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    image = Image.new("1", (96, 96))
    ImageDraw.Draw(image).polygon([(48 + x, 48 + y) for x, y in np.array(outline) @ rotation.T], fill=1)
    return np.asarray(image)


@given(st.floats(-80, 80), st.sampled_from([(30, 10), (40, 20)]))
def test_principal_axis_of_a_rectangle_has_its_aspect_ratio_and_angle(degrees: float, sides: tuple[int, int]) -> None:
    long, short = sides
    length, angle = principal_axis(
        draw_turned([(-long, -short), (long, -short), (long, short), (-long, short)], degrees)
    )
    assert length == pytest.approx(long / short, rel=0.08)
    assert abs((angle - degrees + 90) % 180 - 90) < 2


def test_principal_axis_of_an_empty_mask_has_ratio_one_and_angle_zero() -> None:
    assert principal_axis(np.zeros((5, 5), bool)) == (1.0, 0.0)


@pytest.mark.parametrize("outline", [TROUSERS, DRESS], ids=["trousers", "dress"])
@pytest.mark.parametrize("degrees", [20, -20, 45, -45, 58, -58, 70, -70, 90, -90, 110, -110])
def test_long_garments_are_turned_upright_and_not_upside_down(outline: list[tuple[int, int]], degrees: int) -> None:
    assert turn_upright(draw_turned(outline, degrees)) == pytest.approx(degrees, abs=3)


@pytest.mark.parametrize("outline", [TROUSERS, DRESS], ids=["trousers", "dress"])
@pytest.mark.parametrize("degrees", [0, 5, -8])
def test_upright_garments_are_not_turned(outline: list[tuple[int, int]], degrees: int) -> None:
    assert turn_upright(draw_turned(outline, degrees)) == 0


@pytest.mark.parametrize("outline", [SHOE, BAR, T_SHIRT], ids=["shoe", "bag", "T-shirt"])
@pytest.mark.parametrize("degrees", [0, 12, -25, 45, 90])
def test_shoes_bags_and_t_shirts_are_not_turned(outline: list[tuple[int, int]], degrees: int) -> None:
    assert turn_upright(draw_turned(outline, degrees)) == 0


def test_garment_is_turned_beyond_the_limit_only_if_it_lies_beyond_it() -> None:
    upside_down = [(x, -y) for x, y in TROUSERS]
    assert turn_upright(draw_turned(upside_down, 40)) == pytest.approx(40, abs=3)
    assert abs(turn_upright(draw_turned(upside_down, 80))) == pytest.approx(100, abs=3)
    assert MAX_CERTAIN_TURN < 80
