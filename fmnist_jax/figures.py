"""Figures: pure functions from arrays to a matplotlib `Figure`, without pyplot's global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Two of the colours that Okabe & Ito chose to be told apart by colour-blind readers, and in grey print.
_TRAIN_COLOUR, _VALIDATION_COLOUR = "#0072B2", "#D55E00"


def curves(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws loss, accuracy and learning rate over the epochs of a run.

    Args:
      records: the lines of `metrics.jsonl`.
    """
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    for axes, name, scale, label in ((loss, "loss", 1, "training objective"), (accuracy, "accuracy", 100, "training")):
        epochs, values = _series(records, f"train_{name}", scale)
        axes.plot(epochs, values, color=_TRAIN_COLOUR, label=label, marker=_marker(epochs))
        epochs, values = _series(records, f"val_{name}", scale)
        if epochs:
            axes.plot(epochs, values, color=_VALIDATION_COLOUR, label="validation", marker=".")
    epochs, values = _series(records, "learning_rate")
    rate.plot(epochs, values, color=_TRAIN_COLOUR, marker=_marker(epochs))
    accuracy.set_ylim(bottom=max(0.0, _lower_quartile(records) - 5), top=100.5)
    loss.set_ylim(bottom=0)
    for axes, title in ((loss, "Loss (nats)"), (accuracy, "Accuracy (%)"), (rate, "Learning rate")):
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    loss.legend()
    accuracy.legend(loc="lower right")
    return figure


def _marker(points: Sequence[float]) -> str:
    """Marks the points of a line only where there are too few to see it."""
    return "." if len(points) < 3 else ""


def _series(records: Sequence[Mapping[str, Any]], key: str, scale: float = 1.0) -> tuple[list[float], list[float]]:
    """The epochs and scaled values of the lines that have a key."""
    having = [record for record in records if record.get(key) is not None]
    return [record["epoch"] for record in having], [scale * record[key] for record in having]


def _lower_quartile(records: Sequence[Mapping[str, Any]]) -> float:
    """Leaves the first steps of a run, where the accuracy shoots up, below the visible axis."""
    values = [100 * record["train_accuracy"] for record in records if record.get("train_accuracy") is not None]
    return float(np.quantile(values, 0.25)) if values else 0.0


def confusion_matrix(confusion: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws how often each true class was taken for each class: counts, shaded by share of the true class.

    Args:
      confusion: i[C, C], true class by row, predicted class by column.
      class_names: C names.
    """
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(7.6, 6.8), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    for row, column in np.ndindex(confusion.shape):
        count, share = confusion[row, column], shares[row, column]
        if count:
            axes.text(column, row, f"{count}", ha="center", va="center", color="black" if share > 0.5 else "white")
    axes.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    total, correct = confusion.sum(), np.trace(confusion)
    axes.set_title(f"{correct:,} of {total:,} right ({correct / max(total, 1):.2%})")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.85)
    return figure


def labelled_rows(rows: Mapping[str, np.ndarray]) -> Figure:
    """Draws rows of images side by side, dark on light, each under its name.

    Args:
      rows: u8[N, H, W, 1] by name.
    """
    columns = max(len(images) for images in rows.values())
    figure = Figure(figsize=(2.1 + 0.54 * columns, 0.62 * len(rows)), layout="constrained")
    for axes, (name, images) in zip(np.atleast_1d(figure.subplots(len(rows), 1)), rows.items(), strict=True):
        axes.imshow(255 - np.concatenate(list(images[..., 0]), axis=1), cmap="gray", vmin=0, vmax=255)
        axes.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    return figure
