"""Colours that can be told apart, with full sight, without red or green, and in grey."""

import io
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


def _seen(colour: str, sight: np.ndarray) -> np.ndarray:
    return np.clip(sight @ (np.array(to_rgb(colour)) ** 2.2), 0, 1) ** (1 / 2.2)


@pytest.mark.parametrize("sight", [np.eye(3), _PROTANOPIA, _DEUTERANOPIA], ids=["full", "no red", "no green"])
def test_right_and_wrong_differ_for_every_eye(sight: np.ndarray) -> None:
    assert np.abs(_seen(BLUE, sight) - _seen(VERMILLION, sight)).max() > 0.25


@pytest.mark.parametrize("sight", [np.eye(3), _PROTANOPIA, _DEUTERANOPIA], ids=["full", "no red", "no green"])
def test_each_class_has_a_marker_of_its_own_and_a_colour_that_no_eye_takes_for_anothers(sight: np.ndarray) -> None:
    assert len(set(CLASS_MARKERS)) == len(CLASS_COLOURS) == 10
    for first, second in combinations(CLASS_COLOURS, 2):
        assert np.abs(_seen(first, sight) - _seen(second, sight)).max() > 0.1, (first, second)


def test_a_plot_says_what_it_shows() -> None:
    axes = new_figure(3, 2).subplots()
    describe_axes(axes, "Speed", x="time (s)", y="images/s")
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("Speed", "time (s)", "images/s")


def test_an_image_is_drawn_without_ticks() -> None:
    axes = new_figure(1, 1).subplots()
    show_image(axes, np.array([[0, 255]], np.uint8))
    assert np.array_equal(np.asarray(axes.images[0].get_array()), [[0, 255]])
    assert len(axes.get_xticks()) == len(axes.get_yticks()) == 0


def test_colours_and_photographs_are_drawn_as_they_are_and_what_lies_on_black_dark_on_light() -> None:
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


def test_a_figure_hands_a_notebook_its_picture() -> None:
    figure = new_figure(2, 1)
    image = Image.open(io.BytesIO(figure._repr_png_()))  # type: ignore[attr-defined]
    assert (image.format, image.size) == ("PNG", (200, 100))


def test_panels_are_a_figure_each_of_the_same_data() -> None:
    panels: dict[str, Any] = {"up": lambda axes, y: axes.plot(y), "down": lambda axes, y: axes.plot(y[::-1])}
    figures = draw_panels(panels, [1, 2], 3, 2)
    assert [np.asarray(figure.axes[0].lines[0].get_ydata()).tolist() for figure in figures.values()] == [[1, 2], [2, 1]]
    assert all(tuple(figure.get_size_inches()) == (3, 2) for figure in figures.values())


NAMES = ("under $5", "$5_$", "over $10")


def _drawn(figure: Figure) -> str:
    """All that a figure says, once it has been drawn, which mathematics that cannot be set would not let it be."""
    figure.savefig(io.BytesIO())
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_a_long_text_is_broken_and_then_cut() -> None:
    assert wrap_two_lines("", 20) == truncate("", 20) == ""
    assert wrap_two_lines("Ankle boot", 20) == truncate("Ankle boot", 10) == "Ankle boot"
    assert wrap_two_lines("long-sleeved waterproof mountain jacket", 20) == "long-sleeved\nwaterproof mountain…"
    assert wrap_two_lines("x" * 45, 20) == f"{'x' * 20}\n{'x' * 19}…"
    assert truncate("sleeveless summer dress", 12) == "sleeveless…"
    assert truncate_middle("standard-lr0.2-seed0", 12) == "stand…-seed0"
    assert truncate_middle("standard", 8) == "standard"


def test_a_pair_of_dollars_in_a_name_sets_no_mathematics() -> None:
    images, logits = np.zeros((3, 28, 28, 1), np.uint8), np.eye(3)[[1, 2, 0]]
    assessment, labels = assess(logits, np.arange(3)), np.arange(3)
    projection = Projection(np.eye(3, 2), np.array([0.5, 0.5]))
    sheet = photo_sheet([images[0]], [(0, 0, 1, 1)], images[:1], logits[:1], NAMES, doubts=[[]])
    figures = [
        confusion_matrix(np.eye(3, dtype=int), NAMES),
        sample_grid(images, labels, NAMES),
        average_images(np.zeros((3, 28, 28, 1)), NAMES, np.ones(3, int)),
        prediction_grid(images, assessment, labels, NAMES),
        embedding_map(projection, labels, NAMES),
        saliency_maps(images, np.ones((3, 28, 28)), NAMES),
        accuracy_rows(NAMES, [0.5] * 3, [Interval(0.4, 0.6)] * 3),
        activation_maps(images[0], [np.ones((4, 4, 2))], NAMES[1]),
        sheet,
    ]
    for figure in figures:
        assert r"\$5_\$" in _drawn(figure)
