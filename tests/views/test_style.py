"""Colours that are distinguishable with normal and deficient colour vision, and helpers for drawing."""

import io
import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from fmnist_jax.analysis.assessment import assess
from fmnist_jax.analysis.classification import Interval
from fmnist_jax.analysis.inspection import Projection
from fmnist_jax.views import style
from fmnist_jax.views.features import activation_maps, embedding_map, saliency_maps
from fmnist_jax.views.images import average_images, prediction_grid, sample_grid
from fmnist_jax.views.overlays import accuracy_rows
from fmnist_jax.views.photos import photo_sheet
from fmnist_jax.views.scores import confusion_matrix
from fmnist_jax.views.style import (
    BLUE,
    CLASS_COLOURS,
    CLASS_MARKERS,
    VERMILLION,
    describe_axes,
    draw_panels,
    for_imshow,
    new_figure,
    show_image,
    truncate,
    truncate_middle,
    wrap_two_lines,
)

# Viénot, Brettel & Mollon 1999 (Color Research and Application 24): linear RGB as seen without red or green cones.
_PROTANOPIA = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
_DEUTERANOPIA = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])


def _perceived(colour: str, vision: np.ndarray) -> np.ndarray:
    return np.clip(vision @ (np.array(to_rgb(colour)) ** 2.2), 0, 1) ** (1 / 2.2)


@pytest.mark.parametrize(
    "vision", [np.eye(3), _PROTANOPIA, _DEUTERANOPIA], ids=["normal", "protanopia", "deuteranopia"]
)
def test_colours_of_right_and_wrong_are_distinguishable_with_any_colour_vision(vision: np.ndarray) -> None:
    assert np.abs(_perceived(BLUE, vision) - _perceived(VERMILLION, vision)).max() > 0.25


@pytest.mark.parametrize(
    "vision", [np.eye(3), _PROTANOPIA, _DEUTERANOPIA], ids=["normal", "protanopia", "deuteranopia"]
)
def test_class_markers_are_unique_and_colours_distinguishable_with_any_colour_vision(vision: np.ndarray) -> None:
    assert len(set(CLASS_MARKERS)) == len(CLASS_COLOURS) == 10
    for first, second in combinations(CLASS_COLOURS, 2):
        assert np.abs(_perceived(first, vision) - _perceived(second, vision)).max() > 0.1, (first, second)


def test_describe_axes_sets_title_and_labels() -> None:
    axes = new_figure(3, 2).subplots()
    describe_axes(axes, "Speed", x="time (s)", y="images/s")
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("Speed", "time (s)", "images/s")


def test_show_image_draws_no_ticks() -> None:
    axes = new_figure(1, 1).subplots()
    show_image(axes, np.array([[0, 255]], np.uint8))
    assert np.array_equal(np.asarray(axes.images[0].get_array()), [[0, 255]])
    assert len(axes.get_xticks()) == len(axes.get_yticks()) == 0


def test_for_imshow_negates_only_grey_images_on_black() -> None:
    green = np.zeros((1, 2, 2, 3), np.uint8)
    green[..., 1] = 200
    np.testing.assert_array_equal(for_imshow(green), green)
    np.testing.assert_array_equal(for_imshow(green + 0.4), green)
    digits = np.zeros((2, 8, 6, 1), np.uint8)
    digits[:, 2:6, 2:4] = 220
    np.testing.assert_array_equal(for_imshow(digits), 255 - digits[..., 0])
    photographs = digits + np.uint8(30)
    photographs[:, 0] = photographs[:, -1] = photographs[:, :, 0] = 140
    np.testing.assert_array_equal(for_imshow(photographs), photographs[..., 0])


def test_figure_has_a_png_representation_for_notebooks() -> None:
    figure = new_figure(2, 1)
    image = Image.open(io.BytesIO(figure._repr_png_()))  # type: ignore[attr-defined]
    assert (image.format, image.size) == ("PNG", (200, 100))


def test_draw_panels_draws_one_figure_per_panel_from_the_same_data() -> None:
    panels: dict[str, Any] = {"up": lambda axes, y: axes.plot(y), "down": lambda axes, y: axes.plot(y[::-1])}
    figures = draw_panels(panels, [1, 2], 3, 2)
    assert [np.asarray(figure.axes[0].lines[0].get_ydata()).tolist() for figure in figures.values()] == [[1, 2], [2, 1]]
    assert all(tuple(figure.get_size_inches()) == (3, 2) for figure in figures.values())


DOLLAR_NAMES = ("under $5", "$5_$", "over $10")


def _drawn_text(figure: Figure) -> str:
    """All text of a figure after drawing it, which fails for invalid mathtext."""
    figure.savefig(io.BytesIO())
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_long_text_is_wrapped_and_truncated() -> None:
    assert wrap_two_lines("", 20) == truncate("", 20) == ""
    assert wrap_two_lines("Ankle boot", 20) == truncate("Ankle boot", 10) == "Ankle boot"
    assert wrap_two_lines("long-sleeved waterproof mountain jacket", 20) == "long-sleeved\nwaterproof mountain…"
    assert wrap_two_lines("x" * 45, 20) == f"{'x' * 20}\n{'x' * 19}…"
    assert truncate("sleeveless summer dress", 12) == "sleeveless…"
    assert truncate_middle("standard-lr0.2-seed0", 12) == "stand…-seed0"
    assert truncate_middle("standard", 8) == "standard"


def test_dollar_signs_in_class_names_are_not_parsed_as_mathtext() -> None:
    images, logits = np.zeros((3, 28, 28, 1), np.uint8), np.eye(3)[[1, 2, 0]]
    assessment, labels = assess(logits, np.arange(3)), np.arange(3)
    projection = Projection(np.eye(3, 2), np.array([0.5, 0.5]))
    sheet = photo_sheet([images[0]], [(0, 0, 1, 1)], images[:1], logits[:1], DOLLAR_NAMES, doubts=[[]])
    figures = [
        confusion_matrix(np.eye(3, dtype=int), DOLLAR_NAMES),
        sample_grid(images, labels, DOLLAR_NAMES),
        average_images(np.zeros((3, 28, 28, 1)), DOLLAR_NAMES, np.ones(3, int)),
        prediction_grid(images, assessment, labels, DOLLAR_NAMES),
        embedding_map(projection, labels, DOLLAR_NAMES),
        saliency_maps(images, np.ones((3, 28, 28)), DOLLAR_NAMES),
        accuracy_rows(DOLLAR_NAMES, [0.5] * 3, [Interval(0.4, 0.6)] * 3),
        activation_maps(images[0], [np.ones((4, 4, 2))], DOLLAR_NAMES[1]),
        sheet,
    ]
    for figure in figures:
        assert r"\$5_\$" in _drawn_text(figure)


def test_letters_that_no_font_has_are_drawn_without_a_warning() -> None:
    figure = new_figure(2, 2)
    figure.subplots().set_title("お き é")
    figure.savefig(io.BytesIO(), format="png")
    figure.savefig(io.BytesIO(), format="svg")


def test_installed_fonts_are_tried_after_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    style._other_fonts.cache_clear()
    installed = ["Serif", "Noto Sans Thai", "Noto Sans CJK JP"]
    monkeypatch.setattr("matplotlib.font_manager.get_font_names", lambda: installed)
    assert style._other_fonts() == ["Noto Sans CJK JP", "Noto Sans Thai"]
    monkeypatch.setattr(style, "_other_fonts", lambda: ["DejaVu Serif"])  # which is always there
    figure = new_figure(2, 2)
    own, ascii_text = figure.text(0, 0, "é", family="DejaVu Sans Mono"), figure.text(0, 0, "e", family="monospace")
    figure.savefig(io.BytesIO(), format="png")
    assert own.get_fontfamily() == ["DejaVu Sans Mono", "DejaVu Serif"]
    assert ascii_text.get_fontfamily() == ["monospace"]


def test_percent_formats_fractions_and_shows_a_dash_for_none_and_nan() -> None:
    assert style.percent(0.12345, 2) == "12.35%"
    assert style.percent(None) == style.percent(math.nan) == "–"  # noqa: RUF001
    assert [style.percent(value) for value in (1.0, 0.99996, 0.99949, 0.0)] == ["100.0%", "99.9%", "99.9%", "0.0%"]
    assert style.percent(9_999.9 / 10_000, 2) == "99.99%"
