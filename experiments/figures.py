"""Shared by the figures of the experiments: colours, markers, axes and their ticks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from fmnist_jax import describe_axes

# Okabe & Ito's colours, which colour-blind readers can tell apart, and a marker for each.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#6B6B6B"


def make_subplots(columns: int, width: float = 4.2, height: float = 3.6, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure and its axes, row by row; `width` and `height` are inches per axes."""
    fig = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return fig, list(fig.subplots(rows, columns, squeeze=False).ravel())


def describe(axes: Axes, title: str, x: str, y: str) -> None:
    """Sets the title and the axis labels of a plot, with a legend if any line is labelled."""
    describe_axes(axes, title, x, y)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def label_values(axis: Axis, values: Sequence[float] | np.ndarray, fmt: str = "{:g}", **style: Any) -> None:
    """Puts ticks at these values and nowhere else."""
    axis.set_ticks(values, [fmt.format(value) for value in values], **style)
    axis.set_minor_locator(NullLocator())


def label_decades(axis: Axis) -> None:
    """Puts ticks at 1, 2 and 5 in every decade of a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())
