"""The members of a population compared with their ensemble: the scores of each, and figures of them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fmnist_jax.analysis.assessment import Assessment, assess
from fmnist_jax.analysis.members import Agreement, MeanStd, agreement, mean_std
from fmnist_jax.views.style import BLUE, GREY, VERMILLION, describe_axes, draw_panels

_MAX_NAMED_SEEDS = 16  # seeds named beside the axis, evenly spaced if there are more members
_MAX_COUNTED = 12  # most members for which there is room for a count over each bar


class Member(NamedTuple):
    """One model, scored on the test images."""

    seed: int
    accuracy: float
    loss: float
    """Nats."""
    calibration_error: float
    val_accuracy: float
    """On the validation images, at the last evaluation; NaN without one."""


class Members(NamedTuple):
    """M models and their ensemble."""

    each: Sequence[Member]
    ensemble: Assessment
    agreement: Agreement

    def mean_std(self, name: str) -> MeanStd:
        """Mean and standard deviation over the members of a field of `Member`."""
        return mean_std([getattr(member, name) for member in self.each])


def score_members(
    logits: np.ndarray, ensemble: Assessment, records: Sequence[Mapping[str, Any]], first_seed: int
) -> Members:
    """Scores each member on the images of the ensemble.

    Args:
      logits: f[M, N, C].
      ensemble: of the same N images.
      records: the lines of `metrics.jsonl`.
      first_seed: of member 0; those of the others follow it.
    """
    evaluations = [record["members"]["val_accuracy"] for record in records if "val_accuracy" in _of_members(record)]
    validation = evaluations[-1] if evaluations else [float("nan")] * len(logits)
    each = [
        _score(assess(own, ensemble.labels), first_seed + index, val_accuracy)
        for index, (own, val_accuracy) in enumerate(zip(logits, validation, strict=True))
    ]
    return Members(each, ensemble, agreement(logits.argmax(-1), ensemble.predictions, ensemble.labels))


def _of_members(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return record.get("members", {})


def _score(scores: Assessment, seed: int, val_accuracy: float) -> Member:
    return Member(seed, scores.accuracy, scores.loss, scores.calibration_error, val_accuracy)


def member_panels(members: Members) -> dict[str, Figure]:
    """Draws the members' test accuracies against the ensemble's, and its errors by agreement: figures by name."""
    panels = {"test accuracy of members and ensemble": _accuracies, "errors by agreement": _agreement}
    return draw_panels(panels, members, 4.8, 3.9)


def _accuracies(axes: Axes, members: Members) -> None:
    """Draws a row for the ensemble and one for each member below it."""
    mean, deviation = (100 * value for value in members.mean_std("accuracy"))
    ensemble = 100 * members.ensemble.accuracy
    low, high = (100 * end for end in members.ensemble.interval)
    rows = np.arange(1, len(members.each) + 1)
    top = 1 - max(1.0, len(rows) / _MAX_NAMED_SEEDS)  # as far above the first member as the named ones are apart
    if len(rows) > 1:
        axes.axvspan(mean - deviation, mean + deviation, color=BLUE, alpha=0.15, linewidth=0)
    axes.axvline(mean, color=BLUE, linewidth=1, label=_spread_text(mean, deviation))
    axes.plot([100 * member.accuracy for member in members.each], rows, "o", color=BLUE, markersize=5)
    axes.axvline(ensemble, color=VERMILLION, linewidth=1.2, linestyle="--")
    xerr = [[ensemble - low], [high - ensemble]]
    interval: dict[str, Any] = {"xerr": xerr, "color": VERMILLION, "marker": "D", "markersize": 5, "capsize": 3}
    label = f"ensemble, {ensemble:.2f}, and its 95% interval"
    axes.errorbar([ensemble], [top], linestyle="none", label=label, **interval)
    named = rows[:: -(-len(rows) // _MAX_NAMED_SEEDS)]
    axes.set_yticks([top, *named], ["ensemble", *(f"seed {members.each[row - 1].seed}" for row in named)])
    axes.set_ylim(len(rows) + 0.6, top - 0.6)
    describe_axes(axes, "Test accuracy (%)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.08), frameon=False)


def _spread_text(mean: float, deviation: float) -> str:
    return f"one member, {mean:.2f}" + ("" if np.isnan(deviation) else f" ± {deviation:.2f}")


def _agreement(axes: Axes, members: Members) -> None:
    groups, largest = members.agreement, len(members.each)
    filled = np.flatnonzero(groups.counts)
    errors = 100 * groups.error[filled]
    axes.bar(filled, errors, color=VERMILLION, width=0.8)
    if largest <= _MAX_COUNTED:
        for place, error in zip(filled, errors, strict=True):
            count = f"{groups.counts[place]:,}"
            axes.annotate(
                count, (place, error), (0, 2), textcoords="offset points", ha="center", fontsize=9, color=GREY
            )
    axes.set_xlim(-0.6, largest + 0.6)
    axes.set_ylim(0, 109)  # percent, and room for a count over a full bar
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    described = f"members, of {largest}, that agree with the ensemble"
    describe_axes(axes, "Errors of the ensemble by agreement", x=described, y="wrong (%)")
