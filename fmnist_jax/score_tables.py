"""Scores as tables on the terminal."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from fmnist_jax.assessment import Assessment

_MOST = 5  # rows of what is listed by rank


def show(assessment: Assessment, class_names: Sequence[str], title: str) -> None:
    """Prints scores, a table of the classes, the pairs most often confused, and the surest mistakes."""
    console = Console(highlight=False)
    low, high = assessment.interval
    console.print(
        f"[bold]{assessment.accuracy:.2%}[/bold] right of {len(assessment.labels):,} {title} "
        f"(95% interval {low:.2%} to {high:.2%})\n"
        f"loss {assessment.loss:.4f} nats, in the two most probable {assessment.top2:.2%}, "
        f"expected calibration error {assessment.calibration_error:.2%}",
        soft_wrap=True,
    )
    console.print(_classes(assessment, class_names))
    if assessment.most_confused:
        console.print(_confused(assessment, class_names))
        console.print(_surest_mistakes(assessment, class_names))


def _classes(assessment: Assessment, class_names: Sequence[str]) -> Table:
    table = _table("class", precision="right", recall="right", F1="right", images="right")
    for name, *scores, support in zip(class_names, *assessment.classes, strict=True):
        table.add_row(name, *("-" if np.isnan(score) else f"{score:.1%}" for score in scores), f"{support:,}")
    return table


def _confused(assessment: Assessment, class_names: Sequence[str]) -> Table:
    table = _table("most confused", **{"taken for": "left", "images": "right", "of the class": "right"})
    for pair in assessment.most_confused[:_MOST]:
        table.add_row(class_names[pair.true], class_names[pair.predicted], f"{pair.examples:,}", f"{pair.share:.1%}")
    return table


def _surest_mistakes(assessment: Assessment, class_names: Sequence[str]) -> Table:
    table = _table("surest mistakes", **{"taken for": "left", "probability": "right", "image": "right"})
    for index in assessment.wrong[:_MOST]:
        predicted = assessment.predictions[index]
        probability = f"{assessment.probabilities[index, predicted]:.2%}"
        table.add_row(class_names[assessment.labels[index]], class_names[predicted], probability, f"#{index}")
    return table


def _table(first: str, **others: str) -> Table:
    """A table with a column to the left and others, each justified to a side."""
    table = Table()
    table.add_column(first)
    for name, side in others.items():
        table.add_column(name, justify="right" if side == "right" else "left")
    return table
