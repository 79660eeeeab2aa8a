"""Figures of images with what they are and were taken for: pure functions from arrays to a `Figure`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fmnist_jax.assessment import Assessment
from fmnist_jax.figures import labelled_rows
from fmnist_jax.plot_style import BLUE, VERMILLION, new_figure, show_image, without_ticks

_COLUMNS = 6


def sample_grid(images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], per_class: int = 12) -> Figure:
    """Draws a row of images for each class that there is.

    Args:
      images: u8[N, 28, 28, 1], N >= 1.
      labels: i[N].
      class_names: by label.
      per_class: most images in a row.
    """
    return labelled_rows({class_names[label]: images[labels == label][:per_class] for label in np.unique(labels)})


def prediction_grid(
    images: np.ndarray, assessment: Assessment, indices: np.ndarray, class_names: Sequence[str]
) -> Figure:
    """Draws images with what each was taken for and how surely; framed and marked by whether that is right.

    Args:
      images: u8[N, 28, 28, 1], those that were assessed.
      assessment: of the N images.
      indices: i[M]: the images to draw, in this order.
      class_names: by label.
    """
    if not len(indices):
        return _note("no image to show")
    rows = -(-len(indices) // _COLUMNS)
    figure = new_figure(1.75 * _COLUMNS, 2.35 * rows, padding=0.09)
    places = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, index in zip(places, indices, strict=False):
        true, predicted = assessment.labels[index], assessment.predictions[index]
        probability = assessment.probabilities[index, predicted]
        show_image(axes, images[index])
        _frame(axes, BLUE if true == predicted else VERMILLION)
        mark = "✓" if true == predicted else "✗"
        axes.set_title(f"{mark} {class_names[predicted]}\n{probability:.1%}", fontsize=9)
        axes.set_xlabel(f"#{index}" if true == predicted else f"is {class_names[true]} (#{index})", fontsize=8)
    for axes in places[len(indices) :]:
        axes.set_axis_off()
    return figure


def misclassified_grid(
    images: np.ndarray, assessment: Assessment, class_names: Sequence[str], count: int = 24
) -> Figure:
    """Draws the images that were predicted wrong with the highest probability, surest first, at most so many."""
    return prediction_grid(images, assessment, assessment.wrong[:count], class_names)


def _frame(axes: Axes, colour: str) -> None:
    axes.spines[:].set_visible(True)
    axes.spines[:].set(color=colour, linewidth=2.5)


def _note(text: str) -> Figure:
    figure = new_figure(4, 1)
    axes = figure.subplots()
    without_ticks(axes)
    axes.text(0.5, 0.5, text, ha="center", va="center")
    return figure
