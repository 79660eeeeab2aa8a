"""The report as one HTML page: what a run was, how well it does, and what it gets wrong."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fmnist_jax.analysis.assessment import Assessment, assess
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.record import differences, to_dict
from fmnist_jax.config.schema import Config
from fmnist_jax.data.dataset import Dataset
from fmnist_jax.views import pages, scores
from fmnist_jax.views.members import Members, member_panels, score_members
from fmnist_jax.views.style import has_black_background, percent

_MAX_EXAMPLES = 12  # images behind a cell of the confusion matrix
_MAX_EMBEDDED = 1_200  # images behind all cells, the fullest of which come first
_MAX_EDGE = 96  # pixels of the longer edge of an embedded image
_MAX_MATRIX_CLASSES = 200  # classes; more make a table too large for a browser to scroll
_MAX_MISTAKES = 24  # images in the gallery


class Contents(NamedTuple):
    """The contents of a report."""

    name: str
    """Of the run."""
    config: Config
    step: int
    """Step of the weights; below `config.total_steps` in a run that has not ended."""
    records: Sequence[Mapping[str, Any]]
    """The lines of `metrics.jsonl`."""
    environment: Mapping[str, Any]
    summary: Mapping[str, Any]
    """As in `summary.json`; empty before the end of the run."""
    test: Dataset
    logits: np.ndarray
    """f32[N, C] for the test images; of a population, the ensemble's: logarithms of its members' mean probabilities."""
    member_logits: np.ndarray | None = None
    """f32[M, N, C] of the members of a population."""
    custom_recipe: str | None = None
    """The name of the function that composed the run's recipe in place of `make_recipe`."""


def render(contents: Contents) -> str:
    """Renders a page that needs no other file and no network."""
    assessment, test = assess(contents.logits, contents.test.labels), contents.test
    members = _members(contents, assessment)
    has_matrix = len(test.class_names) <= _MAX_MATRIX_CLASSES
    cells = _cells(assessment) if has_matrix else {}
    mistakes = [int(index) for index in assessment.wrong[:_MAX_MISTAKES]]
    exemplars = [_exemplar(assessment, label) for label in range(len(test.class_names))]
    shown = {index for indices in cells.values() for index in indices} | {*mistakes, *exemplars} - {None}
    images = {
        index: pages.thumbnail_uri(test.images[index], _MAX_EDGE)
        for index in sorted(index for index in shown if index is not None)
    }
    return pages.render(
        "report.html",
        run=contents,
        scores=assessment,
        total_steps=contents.config.total_steps,
        names=test.class_names,
        shape=test.image_shape,
        negated=test.image_shape[2] == 1 and has_black_background(test.images),
        has_matrix=has_matrix,
        weakest_first=np.argsort(np.nan_to_num(assessment.classes.f1, nan=2.0), kind="stable").tolist(),
        exemplars=exemplars,
        images=images,
        mistakes=mistakes,
        examples={"images": images, "cells": {f"{row}-{column}": each for (row, column), each in cells.items()}},
        probabilities={index: percent(float(assessment.probabilities[index].max())) for index in images},
        charts={name: pages.svg(figure) for name, figure in scores.curve_panels(contents.records).items()},
        calibration={
            name: pages.svg(figure) for name, figure in scores.reliability_panels(assessment.reliability).items()
        },
        members=members,
        member_charts={name: pages.svg(figure) for name, figure in (member_panels(members) if members else {}).items()},
        changes=_changes(contents.config),
        settings=json.dumps(to_dict(contents.config), indent=2),
        environment=list(_flatten(contents.environment)),
    )


def _members(contents: Contents, ensemble: Assessment) -> Members | None:
    if contents.member_logits is None:
        return None
    return score_members(contents.member_logits, ensemble, contents.records, contents.config.train.seed)


def _cells(assessment: Assessment) -> dict[tuple[int, int], list[int]]:
    """Finds images for the fullest cells (true, predicted) of the confusion matrix, most confident first."""
    counts = assessment.confusion
    filled = np.argwhere(counts > 0)
    fullest = filled[np.argsort(-counts[counts > 0], kind="stable")][:_MAX_EMBEDDED]
    cells: dict[tuple[int, int], list[int]] = {(int(true), int(predicted)): [] for true, predicted in fullest}
    examples = min(_MAX_EXAMPLES, max(1, _MAX_EMBEDDED // max(len(filled), 1)))
    for index in np.argsort(-assessment.probabilities.max(-1), kind="stable"):
        cell = cells.get((int(assessment.labels[index]), int(assessment.predictions[index])))
        if cell is not None and len(cell) < examples:
            cell.append(int(index))
    return cells


def _exemplar(assessment: Assessment, label: int) -> int | None:
    """The image of a class with the highest probability of that class, a recognised one if there is any."""
    of_class = assessment.labels == label
    recognised = of_class & (assessment.predictions == label)
    candidates = np.flatnonzero(recognised if recognised.any() else of_class)
    return int(candidates[assessment.probabilities[candidates, label].argmax()]) if len(candidates) else None


def _changes(config: Config) -> list[tuple[str, str, str]]:
    """What differs from the preset, as (field, before, after), except for what changes nothing in the training."""
    changed = differences([PRESETS.get(config.preset, Config()), config])
    return [(name, str(before), str(after)) for name, (before, after) in changed.items()]


def _flatten(values: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Lists nested values as (name, text)."""
    for name, value in values.items():
        label = name.replace("_", " ")
        if isinstance(value, Mapping):
            yield label, ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
        elif isinstance(value, list):
            yield label, shlex.join(map(str, value)) if name == "command" else ", ".join(map(str, value))
        else:
            yield label, "unknown" if value is None else str(value)
