from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from fmnist_jax.analysis.assessment import assess
from fmnist_jax.views.members import Members, member_panels, score_members

LABELS = np.arange(40) % 4
VALIDATIONS: list[dict[str, Any]] = [
    {"epoch": 1.0, "val_accuracy": 0.3, "members": {"val_accuracy": [0.2, 0.4, 0.3]}},
    {"epoch": 2.0, "val_accuracy": 0.6, "members": {"val_accuracy": [0.5, 0.6, 0.7]}},
    {"epoch": 2.5, "train_accuracy": 0.9, "members": {"train_accuracy": [0.9, 0.9, 0.9]}},
]


def logits_of(count: int, labels: np.ndarray = LABELS) -> np.ndarray:
    """Of members of which each is right most of the time."""
    rng = np.random.default_rng(0)
    return (3 * np.eye(4)[labels] + rng.normal(0, 1.6, (count, len(labels), 4))).astype(np.float32)


def scored(count: int = 3, labels: np.ndarray = LABELS, records: list[dict[str, Any]] | None = None) -> Members:
    logits = logits_of(count, labels)
    ensemble = np.log(np.mean(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), 0))
    return score_members(logits, assess(ensemble, labels), records or [], 7)


def ticks(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_each_member_is_scored_as_a_model_alone_is() -> None:
    found = scored(records=VALIDATIONS)
    assert [member.seed for member in found.each] == [7, 8, 9]
    assert len({member.accuracy for member in found.each}) > 1
    for member, logits in zip(found.each, logits_of(3), strict=True):
        alone = assess(logits, LABELS)
        assert member.accuracy == np.mean(logits.argmax(-1) == LABELS)
        assert (member.loss, member.calibration_error) == (alone.loss, alone.calibration_error)
    assert found.spread("accuracy").mean == pytest.approx(np.mean([member.accuracy for member in found.each]))
    assert found.agreement.counts.sum() == len(LABELS)
    assert found.agreement.wrong.sum() == len(found.ensemble.wrong)


def test_the_validation_accuracy_is_that_of_the_last_evaluation() -> None:
    assert [member.val_accuracy for member in scored(records=VALIDATIONS).each] == [0.5, 0.6, 0.7]
    assert all(np.isnan(member.val_accuracy) for member in scored(records=VALIDATIONS[2:]).each)


def test_members_lie_in_rows_below_the_ensemble_between_its_interval_and_their_spread() -> None:
    found = scored()
    axes = member_panels(found)["test accuracy of members and ensemble"].axes[0]
    mean, dots, together, *_ = axes.lines
    np.testing.assert_allclose(np.asarray(dots.get_xdata()), [100 * member.accuracy for member in found.each])
    assert np.asarray(dots.get_ydata()).tolist() == [1, 2, 3]
    assert ticks(axes) == ["ensemble", "seed 7", "seed 8", "seed 9"]
    assert axes.yaxis_inverted()
    np.testing.assert_allclose(np.asarray(mean.get_xdata()), 100 * found.spread("accuracy").mean)
    np.testing.assert_allclose(np.asarray(together.get_xdata()), 100 * found.ensemble.accuracy)
    (band,) = axes.patches
    ends = band.get_window_extent().transformed(axes.transData.inverted())
    middle, deviation = (100 * value for value in found.spread("accuracy"))
    np.testing.assert_allclose([ends.x0, ends.x1], [middle - deviation, middle + deviation])
    (interval,) = axes.collections
    (reach,) = interval.get_paths()
    np.testing.assert_allclose(np.asarray(reach.vertices)[:, 0], 100 * np.array(found.ensemble.interval))
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        f"one member, {middle:.2f} ± {deviation:.2f}",
        f"ensemble, {100 * found.ensemble.accuracy:.2f}, and its 95% interval",
    ]


def test_errors_are_drawn_by_how_many_members_predict_as_the_ensemble_with_their_counts() -> None:
    found = scored()
    axes = member_panels(found)["errors by agreement"].axes[0]
    filled = np.flatnonzero(found.agreement.counts)
    bars = [bar.get_path().get_extents(bar.get_patch_transform()) for bar in axes.patches]
    assert [round((bar.x0 + bar.x1) / 2) for bar in bars] == filled.tolist()
    np.testing.assert_allclose([bar.height for bar in bars], 100 * found.agreement.error[filled])
    assert [text.get_text() for text in axes.texts] == [str(count) for count in found.agreement.counts[filled]]
    assert axes.get_xlabel() == "members, of 3, that agree with the ensemble"


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:1]], ids=["images", "one image"])
def test_any_number_of_members_can_be_drawn_and_at_most_sixteen_are_named(
    count: int, labels: np.ndarray, tmp_path: Path
) -> None:
    panels = member_panels(scored(count, labels))
    for figure in panels.values():
        figure.savefig(tmp_path / "figure.png", dpi=40)
    names = ticks(panels["test accuracy of members and ensemble"].axes[0])
    assert names[:2] == ["ensemble", "seed 7"]
    assert 2 <= len(names) <= 17
    assert len(panels["errors by agreement"].axes[0].texts) in ({0} if count > 12 else range(1, count + 2))
