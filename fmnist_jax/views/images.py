"""Figures of a data set's images and of their predictions: pure functions from arrays to a `Figure`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fmnist_jax.analysis.assessment import Assessment
from fmnist_jax.views.style import (
    BLUE,
    VERMILLION,
    escape_mathtext,
    for_imshow,
    has_colour,
    hide_ticks,
    new_figure,
    show_image,
    truncate,
    wrap_two_lines,
)

_COLUMNS = 6
_MAX_ROWS = 40  # more would not fit on a screen
_AVERAGES = 5  # side by side
_MAX_ASPECT_RATIO = 4.0  # longest edge of an image that a figure makes room for, in multiples of the shorter one


def labelled_rows(rows: Mapping[str, np.ndarray]) -> Figure:
    """Draws rows of images side by side, each row next to its name.

    Args:
      rows: u8[N, H, W, C] by name.
    """
    columns = max(len(images) for images in rows.values())
    height, width = next(iter(rows.values())).shape[1:3]
    name_width = 0.4 + 0.085 * max(map(len, rows))  # inches, by the length of the longest
    width_ratio, height_ratio = (min(max(ratio, 1.0), _MAX_ASPECT_RATIO) for ratio in (width / height, height / width))
    figure = new_figure(name_width + 0.54 * width_ratio * columns, 0.62 * height_ratio * len(rows))
    grey = [images for images in rows.values() if not has_colour(images)]
    for axes, (name, images) in zip(np.atleast_1d(figure.subplots(len(rows), 1)), rows.items(), strict=True):
        axes.imshow(np.concatenate(list(for_imshow(images, grey)), axis=1), cmap="gray", vmin=0, vmax=255)
        axes.set_ylabel(escape_mathtext(name), rotation=0, ha="right", va="center", labelpad=8)
        axes.set_anchor("E")  # spare width goes to the names
        hide_ticks(axes)
    return figure


def sample_grid(images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], per_class: int = 12) -> Figure:
    """Draws a row of images for each class present, at most 40 rows.

    Args:
      images: u8[N, H, W, C], N >= 1.
      labels: i[N].
      class_names: by label.
      per_class: the most images in a row.
    """
    present = np.unique(labels)[:_MAX_ROWS]
    return labelled_rows({class_names[label]: images[labels == label][:per_class] for label in present})


def average_images(averages: np.ndarray, class_names: Sequence[str], counts: np.ndarray) -> Figure:
    """Draws the average image of each class, of the first 400 at most, with its name and the number of images.

    Args:
      averages: f[C, H, W, channels] in [0, 255].
      class_names: C names.
      counts: i[C].
    """
    columns = min(_AVERAGES if len(class_names) <= _AVERAGES**2 else 2 * _AVERAGES, len(class_names))
    rows = min(-(-len(class_names) // columns), _MAX_ROWS)
    figure = new_figure(1.7 * columns, 2.15 * rows, padding=0.06)
    axes_grid = figure.subplots(rows, columns, squeeze=False).ravel()
    shown = for_imshow(averages, [averages[np.asarray(counts) > 0]] if np.any(counts) else None)
    for axes, average, name, count in zip(axes_grid, shown, class_names, counts, strict=False):
        show_image(axes, average)
        axes.set_title(escape_mathtext(wrap_two_lines(name, 17)), fontsize=11)
        axes.set_xlabel(f"{count:,} images", fontsize=9)
    for axes in axes_grid[len(class_names) :]:
        axes.set_axis_off()
    return figure


def prediction_grid(
    images: np.ndarray, assessment: Assessment, indices: np.ndarray, class_names: Sequence[str]
) -> Figure:
    """Draws images with their predicted class and its probability, framed and marked by whether it is correct.

    Args:
      images: u8[N, H, W, C], those that were assessed.
      assessment: of the N images.
      indices: i[M]: the images to draw, in this order.
      class_names: by label.
    """
    if not len(indices):
        return _text_figure("no image to show")
    rows = -(-len(indices) // _COLUMNS)
    figure = new_figure(1.75 * _COLUMNS, 2.35 * rows, padding=0.09)
    axes_grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, index, image in zip(axes_grid, indices, for_imshow(images[indices], [images]), strict=False):
        true, predicted = assessment.labels[index], assessment.predictions[index]
        probability = assessment.probabilities[index, predicted]
        show_image(axes, image)
        _frame(axes, BLUE if true == predicted else VERMILLION)
        mark = "✓" if true == predicted else "✗"
        prediction_text = wrap_two_lines(f"{mark} {class_names[predicted]}", 22)
        axes.set_title(escape_mathtext(f"{prediction_text}\n{probability:.1%}"), fontsize=9)
        truth = f"#{index}" if true == predicted else f"is {truncate(class_names[true], 18)} (#{index})"
        axes.set_xlabel(escape_mathtext(truth), fontsize=8)
    for axes in axes_grid[len(indices) :]:
        axes.set_axis_off()
    return figure


def misclassified_grid(
    images: np.ndarray, assessment: Assessment, class_names: Sequence[str], count: int = 24
) -> Figure:
    """Draws the misclassified images with the highest predicted probability, most confident first.

    Args:
      images: u8[N, H, W, C], those that were assessed.
      assessment: of the N images.
      class_names: by label.
      count: the most images to draw.
    """
    return prediction_grid(images, assessment, assessment.wrong[:count], class_names)


def _frame(axes: Axes, colour: str) -> None:
    axes.spines[:].set_visible(True)
    axes.spines[:].set(color=colour, linewidth=2.5)


def _text_figure(text: str) -> Figure:
    figure = new_figure(4, 1)
    axes = figure.subplots()
    hide_ticks(axes)
    axes.text(0.5, 0.5, text, ha="center", va="center")
    return figure
