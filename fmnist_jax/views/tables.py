"""Scores, data sets and predictions as tables for a terminal."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from fmnist_jax.analysis.assessment import Assessment
from fmnist_jax.analysis.census import Copies, SplitSummary
from fmnist_jax.analysis.classification import most_probable

_MAX_ROWS = 5  # rows of a ranked list, at most


def score_tables(assessment: Assessment, class_names: Sequence[str], title: str) -> Iterator[str | Table]:
    """Yields the scores in words, tables of the classes, the most confused pairs, and the most confident mistakes."""
    low, high = assessment.interval
    yield (
        f"[bold]{assessment.accuracy:.2%}[/bold] correct on {len(assessment.labels):,} {title} "
        f"(95% interval {low:.2%} to {high:.2%})\n"
        f"loss {assessment.loss:.4f} nats, top-2 accuracy {assessment.top2:.2%}, "
        f"expected calibration error {assessment.calibration_error:.2%}"
    )
    yield _class_scores(assessment, class_names)
    if assessment.most_confused:
        yield _confused(assessment, class_names)
        yield _most_confident_mistakes(assessment, class_names)


def _class_scores(assessment: Assessment, class_names: Sequence[str]) -> Table:
    table = _table(["class"], ["precision", "recall", "F1", "images"])
    for name, *scores, support in zip(class_names, *assessment.classes, strict=True):
        _add_row(table, name, *("-" if np.isnan(score) else f"{score:.1%}" for score in scores), f"{support:,}")
    return table


def _confused(assessment: Assessment, class_names: Sequence[str]) -> Table:
    table = _table(["most confused", "taken for"], ["images", "of the class"])
    for pair in assessment.most_confused[:_MAX_ROWS]:
        _add_row(table, class_names[pair.true], class_names[pair.predicted], f"{pair.examples:,}", f"{pair.share:.1%}")
    return table


def _most_confident_mistakes(assessment: Assessment, class_names: Sequence[str]) -> Table:
    table = _table(["most confident mistakes", "taken for"], ["probability", "image"])
    for index in assessment.wrong[:_MAX_ROWS]:
        predicted = assessment.predictions[index]
        probability = f"{assessment.probabilities[index, predicted]:.2%}"
        _add_row(table, class_names[assessment.labels[index]], class_names[predicted], probability, f"#{index}")
    return table


def dataset_tables(
    summaries: Mapping[str, SplitSummary], copies: Mapping[str, Copies], class_names: Sequence[str]
) -> Iterator[Table]:
    """Yields tables of sizes and ranges, class counts and exact copies of splits, given by name."""
    yield _sizes(summaries)
    yield _class_counts(summaries, class_names)
    yield _copies(copies)


def _sizes(summaries: Mapping[str, SplitSummary]) -> Table:
    table = _table(["split"], ["images", "shape", "type", "values", "mean", "deviation"])
    for name, summary in summaries.items():
        shape, values = "x".join(map(str, summary.shape)), f"{summary.lowest}..{summary.highest}"
        moments = (f"{summary.mean:.2f} ({summary.mean / 255:.4f})", f"{summary.std:.2f} ({summary.std / 255:.4f})")
        _add_row(table, name, f"{summary.size:,}", shape, summary.dtype, values, *moments)
    table.caption = "in parentheses: of pixels scaled to 0..1"
    return table


def _class_counts(summaries: Mapping[str, SplitSummary], class_names: Sequence[str]) -> Table:
    table = _table(["label", "class"], list(summaries))
    for label, name in enumerate(class_names):
        _add_row(table, str(label), name, *(f"{summary.class_counts[label]:,}" for summary in summaries.values()))
    return table


def _copies(copies: Mapping[str, Copies]) -> Table:
    table = _table(["exact copies"], ["images", "distinct", "labels disagree"])
    for name, counts in copies.items():
        label = name.replace(" in ", ", also in ") if " in " in name else f"within {name}"
        _add_row(table, label, *(f"{count:,}" for count in counts))
    return table


def prediction_table(
    names: Sequence[str],
    backgrounds: Sequence[str],
    probabilities: np.ndarray,
    class_names: Sequence[str],
    doubts: Sequence[Sequence[str]],
) -> Table:
    """A row for each picture: its background, its three most probable classes, and what makes them unsure.

    Args:
      names: of N pictures.
      backgrounds: a word or two for each.
      probabilities: f[N, C].
      class_names: C names.
      doubts: for each picture, the reasons to be unsure, if there are any.
    """
    table = Table(show_lines=True)
    table.add_column("picture", overflow="fold")
    table.add_column("background", no_wrap=True)
    table.add_column("most probable", no_wrap=True)
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("unsure")
    for name, background, shares, reasons in zip(names, backgrounds, probabilities, doubts, strict=True):
        top = most_probable(shares)
        classes, percentages = (class_names[label] for label in top), (f"{shares[label]:.1%}" for label in top)
        _add_row(table, name, background, "\n".join(classes), "\n".join(percentages), ", ".join(reasons))
    return table


def prediction_summary(probabilities: np.ndarray, class_names: Sequence[str], doubts: Sequence[Sequence[str]]) -> Table:
    """A row for each class: for how many pictures it is the most probable, and for how many of them that is unsure.

    Args:
      probabilities: f[N, C].
      class_names: C names.
      doubts: for each of the N pictures, the reasons to be unsure, if there are any.
    """
    table = _table(["most probable"], ["pictures", "unsure"])
    best, unsure = probabilities.argmax(-1), np.array([bool(reasons) for reasons in doubts])
    for label, name in enumerate(class_names):
        _add_row(table, name, f"{np.sum(best == label):,}", f"{np.sum(unsure & (best == label)):,}")
    return table


def _add_row(table: Table, *cells: str) -> None:
    """Adds cells verbatim: rich could take the name of a class or a picture for markup."""
    table.add_row(*map(Text, cells))


def _table(words: Sequence[str], numbers: Sequence[str]) -> Table:
    """A table with left-aligned columns of words, followed by right-aligned columns of numbers."""
    table = Table(*words)
    for name in numbers:
        table.add_column(name, justify="right")
    return table
