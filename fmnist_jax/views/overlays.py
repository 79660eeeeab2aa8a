"""Figures of several runs: their curves overlaid, their accuracies in rows."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fmnist_jax.analysis.classification import Interval
from fmnist_jax.views.scores import label_epoch_axis, marker, series, start_at_zero
from fmnist_jax.views.style import BLUE, VERMILLION, describe_axes, draw_panels, escape_mathtext, new_figure

# Okabe & Ito's that are visible on white and on black; the last turns white on black.
_COLOURS = (BLUE, VERMILLION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Lengths of dashes and gaps, in points; a solid line has none.
_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2))


class LineStyle(NamedTuple):
    """How the curves of one run are drawn."""

    colour: str
    dashes: tuple[float, ...]


class RunCurves(NamedTuple):
    """The curves of one run."""

    line: LineStyle
    records: Sequence[Mapping[str, Any]]
    """The lines of `metrics.jsonl`."""


def line_style(number: int) -> LineStyle:
    """The line of run `number`: 28 runs have distinct lines, which then repeat."""
    return LineStyle(_COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS) % len(_DASHES)])


def overlaid_panels(runs: Sequence[RunCurves]) -> dict[str, Figure]:
    """Draws each quantity that any run has logged, a figure each with the curves of all runs, by name."""
    drawings = {
        "training objective": ("train_loss", 1, "Training objective (nats)"),
        "training accuracy": ("train_accuracy", 100, "Training accuracy (%)"),
        "validation loss": ("val_loss", 1, "Validation loss (nats)"),
        "validation accuracy": ("val_accuracy", 100, "Validation accuracy (%)"),
        "learning rate": ("learning_rate", 1, "Learning rate"),
    }
    logged = {key for run in runs for record in run.records for key, value in record.items() if value is not None}
    panels = {
        name: partial(_overlay, key=key, scale=scale, title=title)
        for name, (key, scale, title) in drawings.items()
        if key in logged
    }
    return draw_panels(panels, runs, 4.2, 3.0)


def _overlay(axes: Axes, runs: Sequence[RunCurves], key: str, scale: float, title: str) -> None:
    for run in runs:
        epochs, values = series(run.records, key, scale)
        style: dict[str, Any] = {"color": run.line.colour, "dashes": run.line.dashes, "linewidth": 1.3}
        axes.plot(epochs, values, marker=marker(epochs), **style)
    label_epoch_axis(axes, title)
    if scale == 1:
        start_at_zero(axes)


def accuracy_rows(names: Sequence[str], accuracies: Sequence[float], intervals: Sequence[Interval]) -> Figure:
    """Draws the accuracy of each run with its interval, the first run on top.

    Args:
      names: to show beside the axis.
      accuracies: in [0, 1].
      intervals: of the accuracies.
    """
    figure = new_figure(8.4, 1.0 + 0.32 * len(names))
    axes = figure.subplots()
    for row, (accuracy, interval) in enumerate(zip(accuracies, intervals, strict=True)):
        xerr = [[100 * (accuracy - interval.low)], [100 * (interval.high - accuracy)]]
        axes.errorbar([100 * accuracy], [row], xerr=xerr, color=line_style(row).colour, marker="o", capsize=3)
    axes.set_yticks(range(len(names)), [escape_mathtext(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    describe_axes(axes, x="test accuracy and its 95% interval (%)")
    return figure
