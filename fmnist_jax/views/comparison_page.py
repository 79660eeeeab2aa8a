"""Several runs on one HTML page: what they reach, how they got there, and how they differ."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fmnist_jax.analysis.assessment import Assessment, assess
from fmnist_jax.analysis.pairs import PairedComparison, paired_difference
from fmnist_jax.config.record import differences
from fmnist_jax.config.schema import Config
from fmnist_jax.data.dataset import Dataset
from fmnist_jax.views import overlays, pages
from fmnist_jax.views.style import truncate_middle

_MAX_NAME_LENGTH = 28  # letters of a name; longer ones would leave no room for the figure


class Run(NamedTuple):
    """What the page shows of one run."""

    name: str
    config: Config
    step: int
    """Step of the weights; below `config.total_steps` in a run that has not ended."""
    records: Sequence[Mapping[str, Any]]
    """The lines of `metrics.jsonl`."""
    summary: Mapping[str, Any]
    """As in `summary.json`; empty before the end of the run."""
    test: Dataset
    logits: np.ndarray
    """f32[N, C] for the test images; for a population, the ensemble's."""
    custom_recipe: str | None = None
    """The name of the function that composed the run's recipe in place of `make_recipe`."""


class _Row(NamedTuple):
    """What the tables show of a run."""

    run: Run
    scores: Assessment
    difference: PairedComparison | None
    """Compared with the first run, if both saw the same test images."""
    line: overlays.LineStyle
    colour: str
    """The line's colour on the page."""


def same_images(one: Dataset, other: Dataset) -> bool:
    """Whether two data sets have the same images and labels, in the same order."""
    return np.array_equal(one.labels, other.labels) and np.array_equal(one.images, other.images)


def render(title: str, runs: Sequence[Run]) -> str:
    """Renders a page that needs no other file and no network.

    Args:
      title: of the page.
      runs: two or more, with the same classes; the others are compared with the first.
    """
    rows = _rows(runs)
    names = runs[0].test.class_names
    curves = [overlays.RunCurves(row.line, row.run.records) for row in rows]
    recalls = np.array([row.scores.classes.recall for row in rows])
    return pages.render(
        "comparison.html",
        title=title,
        data=runs[0].config.data.name,
        rows=rows,
        names=names,
        recalls=recalls,
        by_recall_range=_by_recall_range(recalls),
        settings=_differences(runs),
        custom_recipe=runs[0].custom_recipe,
        charts={name: pages.svg(figure) for name, figure in overlays.overlaid_panels(curves).items()},
        accuracies=pages.svg(
            overlays.accuracy_rows(
                [truncate_middle(run.name, _MAX_NAME_LENGTH) for run in runs],
                [row.scores.accuracy for row in rows],
                [row.scores.interval for row in rows],
            )
        ),
    )


def _rows(runs: Sequence[Run]) -> list[_Row]:
    assessed = [assess(run.logits, run.test.labels) for run in runs]
    first_correct = assessed[0].predictions == runs[0].test.labels
    rows = []
    for number, (run, scores) in enumerate(zip(runs, assessed, strict=True)):
        comparable = number > 0 and same_images(run.test, runs[0].test)
        difference = paired_difference(scores.predictions == run.test.labels, first_correct) if comparable else None
        line = overlays.line_style(number)
        rows.append(_Row(run, scores, difference, line, pages.css_colour(line.colour)))
    return rows


def _differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Each run's values where they differ, by setting: the functions that composed the recipes, then fields."""
    composers = [run.custom_recipe or "fmnist_jax.make_recipe" for run in runs]
    return {
        **({"make_recipe": composers} if len(set(composers)) > 1 else {}),
        **differences([run.config for run in runs]),
    }


def _by_recall_range(recalls: np.ndarray) -> list[int]:
    """The classes, those whose recall differs most between the runs first."""
    known = [values[~np.isnan(values)] for values in recalls.T]
    apart = [float(np.ptp(values)) if len(values) else -math.inf for values in known]
    return sorted(range(len(apart)), key=lambda label: -apart[label])
