"""Figures of scores: pure functions from arrays to a matplotlib `Figure`, without pyplot's global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, ScalarFormatter

from fmnist_jax.analysis.calibration import Reliability
from fmnist_jax.views.style import (
    BLUE,
    GREY,
    SHARE_COLOURMAP,
    VERMILLION,
    describe_axes,
    draw_panels,
    escape_mathtext,
    new_figure,
    percent,
    truncate,
)

_MAX_INCHES = 32.0  # inches: enough for 200 names
_MAX_LETTERS = 24  # of a name beside the matrix, to which longer ones would leave no room
_MAX_COUNTED_CLASSES = 25  # most classes whose counts are legible
_MAX_MEMBER_CURVES = 32  # most curves of members; of more, only their range is drawn


def curves(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws loss, accuracy and learning rate over the epochs of a run, side by side.

    For a population, each member's curve is a thin line, or their range a band, under the bold curve of their mean.

    Args:
      records: the lines of `metrics.jsonl`.
    """
    figure = new_figure(11, 3.6)
    for axes, draw in zip(figure.subplots(1, 3), (_loss, _accuracy, _learning_rate), strict=True):
        draw(axes, records)
    return figure


def curve_panels(records: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Draws the parts of `curves` as a figure each, by name."""
    panels = {"loss": _loss, "accuracy": _accuracy, "learning rate": _learning_rate}
    return draw_panels(panels, records, 3.7, 2.9)


def _loss(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    _plot(axes, records, "loss", 1, "training objective")
    start_at_zero(axes)
    label_epoch_axis(axes, "Loss (nats)")
    axes.legend(title=_members_title(records))


def _accuracy(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    _plot(axes, records, "accuracy", 100, "training")
    axes.set_ylim(bottom=max(0.0, _lower_quartile(records) - 5), top=100.5)
    _ring_best(axes, records)
    label_epoch_axis(axes, "Accuracy (%)")
    axes.legend(loc="lower right", title=_members_title(records))


def _learning_rate(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    epochs, values = series(records, "learning_rate")
    axes.plot(epochs, values, color=BLUE, marker=marker(epochs))
    axes.set_ylim(bottom=0)
    label_epoch_axis(axes, "Learning rate")


def _plot(axes: Axes, records: Sequence[Mapping[str, Any]], name: str, scale: float, label: str) -> None:
    """Plots a quantity on the training images, and on the validation images if there are any."""
    epochs, values = series(records, f"train_{name}", scale)
    axes.plot(epochs, values, color=BLUE, label=label, marker=marker(epochs), linewidth=1.2)
    _plot_members(axes, records, f"train_{name}", scale, BLUE)
    epochs, values = series(records, f"val_{name}", scale)
    if epochs:
        style: dict[str, Any] = {"color": VERMILLION, "marker": "o", "markersize": 4, "linestyle": "--"}
        axes.plot(epochs, values, label="validation", **style)
        _plot_members(axes, records, f"val_{name}", scale, VERMILLION)


def _plot_members(axes: Axes, records: Sequence[Mapping[str, Any]], key: str, scale: float, colour: str) -> None:
    """Plots a quantity of each member, or the range of many, beneath the other curves."""
    having = [record for record in records if key in record.get("members", ())]
    if not having:
        return
    epochs = [record["epoch"] for record in having]
    values = scale * np.array([record["members"][key] for record in having], np.float64)
    if values.shape[1] > _MAX_MEMBER_CURVES:
        axes.fill_between(epochs, values.min(1), values.max(1), color=colour, alpha=0.2, linewidth=0, zorder=1.5)
    else:
        axes.plot(epochs, values, color=colour, alpha=0.5, linewidth=0.7, marker=marker(epochs), zorder=1.5)


def _members_title(records: Sequence[Mapping[str, Any]]) -> str | None:
    """What a bold line shows, if there are members."""
    of_members = (values for record in records for values in record.get("members", {}).values())
    values = next(of_members, None)
    return None if values is None else f"mean of {len(values)} members"


def start_at_zero(axes: Axes) -> None:
    """Begins the vertical axis at 0, unless what is plotted goes below, as an objective of one's own may."""
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if axes.dataLim.ymin < 0 else 0.0)


def label_epoch_axis(axes: Axes, title: str) -> None:
    """Labels axes with epochs on the horizontal one, and ticks at whole epochs."""
    describe_axes(axes, title, x="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _ring_best(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    """Rings the best validation accuracy, the later one of a tie, as for the best checkpoint."""
    epochs, values = series(records, "val_accuracy", 100)
    if epochs:
        value, epoch = max(zip(values, epochs, strict=True))
        ring: dict[str, Any] = {"s": 70, "facecolors": "none", "edgecolors": "black", "zorder": 3}
        axes.scatter([epoch], [value], label=f"best validation, {value:.2f}%", **ring)


def marker(points: Sequence[float]) -> str:
    """The marker of a line's points: visible only if there are too few to see the line."""
    return "." if len(points) < 3 else ""


def series(records: Sequence[Mapping[str, Any]], key: str, scale: float = 1.0) -> tuple[list[float], list[float]]:
    """The epochs and scaled values of the records that have a key."""
    with_key = [record for record in records if record.get(key) is not None]
    return [record["epoch"] for record in with_key], [scale * record[key] for record in with_key]


def _lower_quartile(records: Sequence[Mapping[str, Any]]) -> float:
    """The lower quartile of accuracy, to leave the first steps of a run, where it shoots up, below the visible axis.

    That of the training or of the validation images, whichever is lower: the latter if the network overfits.
    """
    both = (series(records, key, 100)[1] for key in ("train_accuracy", "val_accuracy"))
    return min((float(np.quantile(values, 0.25)) for values in both if values), default=0.0)


def confusion_matrix(confusion: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws how often each true class was predicted as each class: counts, and below them shares of the true class.

    With more than 25 classes, only the shares are drawn, as colours.

    Args:
      confusion: i[C, C], true class by row, predicted class by column.
      class_names: C names.
    """
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    classes, few = len(class_names), len(class_names) <= _MAX_COUNTED_CLASSES
    # Inches, 0.16 for a name in small print; if a page has no room for all classes, only every n-th is named.
    side = min(max(7.6, (0.7 if few else 0.16) * classes), _MAX_INCHES)
    tick_step = 1 if few else int(np.ceil(0.16 * classes / _MAX_INCHES))
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    image = axes.imshow(100 * shares, cmap=SHARE_COLOURMAP, vmin=0, vmax=100)
    for row, column in np.argwhere(confusion) if few else ():
        count, share = confusion[row, column], shares[row, column]
        label, colour = f"{count}\n{percent(share)}", "white" if share > 0.5 else "black"
        axes.text(column, row, label, ha="center", va="center", color=colour, fontsize=8.5)
    tick_style: dict[str, Any] = {"rotation": 45 if few else 90, "ha": "right", "rotation_mode": "anchor"}
    size = 10 if few else 7
    names = [escape_mathtext(truncate(name, _MAX_LETTERS)) for name in class_names[::tick_step]]
    axes.set_xticks(range(0, classes, tick_step), names, fontsize=size, **tick_style)
    axes.set_yticks(range(0, classes, tick_step), names, fontsize=size)
    # Lines between the cells, so that the eye can follow a row through the empty ones.
    axes.set_xticks(np.arange(1, len(class_names)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(class_names)) - 0.5, minor=True)
    axes.grid(which="minor", color="#cccccc", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    total, correct = confusion.sum(), np.trace(confusion)
    axes.set_title(f"{correct:,} of {total:,} correct ({percent(correct / max(total, 1), 2)})")
    bar: dict[str, Any] = {} if few else {"fraction": 0.04, "pad": 0.02}
    figure.colorbar(image, ax=axes, label="share of the true class (%)", shrink=0.85, **bar)
    return figure


def reliability_diagram(bins: Reliability) -> Figure:
    """Draws accuracy against confidence, and below it how many examples have each confidence, correct and wrong."""
    figure = new_figure(6.4, 6.8)
    above, below = figure.subplots(2, 1, height_ratios=(3, 2))
    _reliability(above, bins)
    _confidences(below, bins)
    return figure


def reliability_panels(bins: Reliability) -> dict[str, Figure]:
    """Draws the parts of `reliability_diagram` as a figure each, by name."""
    panels = {"reliability": _reliability, "confidence": _confidences}
    return draw_panels(panels, bins, 4.8, 3.6)


def _reliability(axes: Axes, bins: Reliability) -> None:
    filled, middles = bins.counts > 0, (bins.edges[:-1] + bins.edges[1:]) / 2
    widths = np.diff(bins.edges)[filled]
    axes.bar(middles[filled], bins.accuracy[filled], widths, color=BLUE, alpha=0.6, edgecolor="white")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="perfectly calibrated")
    axes.plot(bins.confidence[filled], bins.accuracy[filled], color="black", marker="o", markersize=4, label="measured")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="upper left")
    error = bins.calibration_error
    describe_axes(axes, f"Reliability: expected calibration error {error:.2%}", y="accuracy")
    _label_confidence_axis(axes)


def _confidences(axes: Axes, bins: Reliability) -> None:
    widths, middles = np.diff(bins.edges), (bins.edges[:-1] + bins.edges[1:]) / 2
    wrong = bins.counts - bins.right
    axes.bar(middles, bins.right, widths, color=BLUE, edgecolor="white", label="correct")
    axes.bar(middles, wrong, widths, bins.right, color=VERMILLION, edgecolor="white", hatch="///", label="wrong")
    # A handful of uncertain images beside thousands of confident ones shows only on a logarithmic axis.
    axes.set_yscale("symlog", linthresh=10)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.legend(loc="upper left")
    describe_axes(axes, "Confidence", y="images (logarithmic)")
    _label_confidence_axis(axes)


def _label_confidence_axis(axes: Axes) -> None:
    axes.set_xlabel("confidence: probability of the predicted class")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlim(0, 1)
