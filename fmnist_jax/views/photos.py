"""A sheet of users' own pictures, with what a network saw of each and what it predicted."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fmnist_jax.analysis.classification import most_probable
from fmnist_jax.views.style import BLUE, GREY, VERMILLION, escape_mathtext, hide_ticks, new_figure, percent, truncate

_PICTURES_PER_ROW = 2  # pictures side by side on a sheet
_MAX_LETTERS = 22  # of a class name over its bar
_LINE_WIDTH = 34  # letters per line under the bars


def photo_sheet(
    thumbnails: Sequence[np.ndarray],
    boxes: Sequence[tuple[float, float, float, float]],
    images: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    *,
    doubts: Sequence[Sequence[str]],
) -> Figure:
    """Draws pictures with the object that was found, what the network saw of each, and its three likeliest classes.

    Args:
      thumbnails: N pictures u8[h, w, 3].
      boxes: of the objects: left, top, right, bottom as shares of width and height.
      images: u8[N, H, W, C].
      probabilities: f[N, C].
      class_names: C names.
      doubts: for each picture, what makes its classes unsure, if anything does.
    """
    per_row = min(_PICTURES_PER_ROW, len(thumbnails))
    rows = -(-len(thumbnails) // per_row)
    figure = new_figure(5.9 * per_row, 1.9 * rows, padding=0.08)
    axes_grid = figure.subplots(rows, 3 * per_row, squeeze=False, width_ratios=[1, 1, 1.1] * per_row).reshape(-1, 3)
    shown = zip(axes_grid, thumbnails, boxes, images, probabilities, doubts, strict=False)
    for (photo, seen, bars), thumbnail, box, image, shares, reasons in shown:
        _draw_photo(photo, thumbnail, box)
        shape = image.shape[:2] if image.shape[-1] == 1 else image.shape
        seen.imshow(image.reshape(shape), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        hide_ticks(seen)
        _draw_bars(bars, shares, class_names)
        if reasons:
            bars.set_xlabel(textwrap.fill(f"unsure: {', '.join(reasons)}", _LINE_WIDTH), fontsize=8, color=VERMILLION)
    for photo, seen, bars in axes_grid[:per_row]:
        photo.set_title("picture", fontsize=10)
        seen.set_title("seen by the network", fontsize=10)
        bars.set_title("probability", fontsize=10)
    for axes in axes_grid[len(thumbnails) :].ravel():
        axes.set_axis_off()
    return figure


def _draw_photo(axes: Axes, thumbnail: np.ndarray, box: tuple[float, float, float, float]) -> None:
    height, width = thumbnail.shape[:2]
    left, top, right, bottom = np.array(box) * (width, height, width, height)
    axes.imshow(thumbnail)
    axes.add_patch(
        Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=VERMILLION, linewidth=1.5)
    )
    # A square around any picture, so that pictures side by side have the same height.
    half = max(height, width) / 2
    axes.set_xlim(width / 2 - half - 0.5, width / 2 + half - 0.5)
    axes.set_ylim(height / 2 + half - 0.5, height / 2 - half - 0.5)
    hide_ticks(axes)
    axes.spines[:].set(visible=True, color=GREY, linewidth=0.5)


def _draw_bars(axes: Axes, shares: np.ndarray, class_names: Sequence[str]) -> None:
    """Draws the most probable classes as bars, each with its name and share written over it."""
    top = most_probable(shares)
    positions = np.arange(len(top))
    axes.barh(positions, shares[top], height=0.3, color=BLUE)
    for place, label in zip(positions, top, strict=True):
        name = truncate(class_names[label], _MAX_LETTERS)
        axes.text(0, place - 0.22, escape_mathtext(f"{name}  {percent(float(shares[label]))}"), fontsize=9, va="bottom")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(top) - 0.6, -0.8)
    hide_ticks(axes)
