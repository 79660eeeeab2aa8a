from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from fmnist_jax.analysis.assessment import assess
from fmnist_jax.views.members import Members, member_panels, score_members

LABELS = np.arange(40) % 4
RECORDS: list[dict[str, Any]] = [
    {"epoch": 1.0, "val_accuracy": 0.3, "members": {"val_accuracy": [0.2, 0.4, 0.3]}},
    {"epoch": 2.0, "val_accuracy": 0.6, "members": {"val_accuracy": [0.5, 0.6, 0.7]}},
    {"epoch": 2.5, "train_accuracy": 0.9, "members": {"train_accuracy": [0.9, 0.9, 0.9]}},
]


def member_logits(count: int, labels: np.ndarray = LABELS) -> np.ndarray:
    """Logits of members, each of which is right most of the time."""
    rng = np.random.default_rng(0)
    return (3 * np.eye(4)[labels] + rng.normal(0, 1.6, (count, len(labels), 4))).astype(np.float32)


def make_members(count: int = 3, labels: np.ndarray = LABELS, records: list[dict[str, Any]] | None = None) -> Members:
    logits = member_logits(count, labels)
    ensemble = np.log(np.mean(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), 0))
    return score_members(logits, assess(ensemble, labels), records or [], 7)


def tick_labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_each_member_is_scored_like_a_single_model() -> None:
    members = make_members(records=RECORDS)
    assert [member.seed for member in members.each] == [7, 8, 9]
    assert len({member.accuracy for member in members.each}) > 1
    for member, logits in zip(members.each, member_logits(3), strict=True):
        single = assess(logits, LABELS)
        assert member.accuracy == np.mean(logits.argmax(-1) == LABELS)
        assert (member.loss, member.calibration_error) == (single.loss, single.calibration_error)
    assert members.mean_std("accuracy").mean == pytest.approx(np.mean([member.accuracy for member in members.each]))
    assert members.agreement.counts.sum() == len(LABELS)
    assert members.agreement.wrong.sum() == len(members.ensemble.wrong)


def test_validation_accuracy_is_that_of_the_last_evaluation() -> None:
    assert [member.val_accuracy for member in make_members(records=RECORDS).each] == [0.5, 0.6, 0.7]
    assert all(np.isnan(member.val_accuracy) for member in make_members(records=RECORDS[2:]).each)


def test_accuracy_panel_shows_members_below_the_ensemble_with_spread_and_interval() -> None:
    members = make_members()
    axes = member_panels(members)["test accuracy of members and ensemble"].axes[0]
    mean_line, member_dots, ensemble_line, *_ = axes.lines
    np.testing.assert_allclose(np.asarray(member_dots.get_xdata()), [100 * member.accuracy for member in members.each])
    assert np.asarray(member_dots.get_ydata()).tolist() == [1, 2, 3]
    assert tick_labels(axes) == ["ensemble", "seed 7", "seed 8", "seed 9"]
    assert axes.yaxis_inverted()
    np.testing.assert_allclose(np.asarray(mean_line.get_xdata()), 100 * members.mean_std("accuracy").mean)
    np.testing.assert_allclose(np.asarray(ensemble_line.get_xdata()), 100 * members.ensemble.accuracy)
    (band,) = axes.patches
    band_extent = band.get_window_extent().transformed(axes.transData.inverted())
    mean, deviation = (100 * value for value in members.mean_std("accuracy"))
    np.testing.assert_allclose([band_extent.x0, band_extent.x1], [mean - deviation, mean + deviation])
    (interval,) = axes.collections
    (interval_path,) = interval.get_paths()
    np.testing.assert_allclose(np.asarray(interval_path.vertices)[:, 0], 100 * np.array(members.ensemble.interval))
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        f"one member, {mean:.2f} ± {deviation:.2f}",
        f"ensemble, {100 * members.ensemble.accuracy:.2f}, and its 95% interval",
    ]


def test_agreement_panel_shows_error_and_count_per_number_of_agreeing_members() -> None:
    members = make_members()
    axes = member_panels(members)["errors by agreement"].axes[0]
    nonempty = np.flatnonzero(members.agreement.counts)
    bars = [bar.get_path().get_extents(bar.get_patch_transform()) for bar in axes.patches]
    assert [round((bar.x0 + bar.x1) / 2) for bar in bars] == nonempty.tolist()
    np.testing.assert_allclose([bar.height for bar in bars], 100 * members.agreement.error[nonempty])
    assert [text.get_text() for text in axes.texts] == [str(count) for count in members.agreement.counts[nonempty]]
    assert axes.get_xlabel() == "members, of 3, that agree with the ensemble"


@pytest.mark.parametrize(("count", "named"), [(1, 1), (2, 2), (12, 12), (13, 13), (16, 16), (17, 9), (40, 14)])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:1]], ids=["images", "one image"])
def test_any_number_of_members_is_drawn_and_at_most_16_are_labelled(
    count: int, named: int, labels: np.ndarray, tmp_path: Path
) -> None:
    members = make_members(count, labels)
    panels = member_panels(members)
    for figure in panels.values():
        figure.savefig(tmp_path / "figure.png", dpi=40)
    names = tick_labels(panels["test accuracy of members and ensemble"].axes[0])
    assert names == ["ensemble", *(f"seed {7 + index}" for index in range(0, count, -(-count // named)))]
    assert len(names) == 1 + named
    bars = np.count_nonzero(members.agreement.counts)
    assert len(panels["errors by agreement"].axes[0].texts) == (bars if count <= 12 else 0)
