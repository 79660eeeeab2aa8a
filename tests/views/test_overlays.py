"""Overlaid curves of several runs."""

from typing import Any

import numpy as np
from matplotlib.collections import LineCollection

from fmnist_jax.analysis.classification import Interval
from fmnist_jax.views import overlays

_RECORDS: list[dict[str, Any]] = [
    {"epoch": 1.0, "train_loss": 2.0, "train_accuracy": 0.5, "learning_rate": 0.1},
    {"epoch": 1.0, "val_loss": 1.0, "val_accuracy": 0.75},
    {"epoch": 2.0, "train_loss": 1.0, "train_accuracy": 0.7, "learning_rate": 0.2},
]


def test_each_run_has_a_line_per_panel_and_unlogged_metrics_have_no_panel() -> None:
    without_validation = [{**record, "val_accuracy": None} for record in _RECORDS if "val_loss" not in record]
    runs = [
        overlays.RunCurves(overlays.line_style(number), records)
        for number, records in enumerate((_RECORDS, without_validation, []))
    ]
    panels = overlays.overlaid_panels(runs)
    assert list(panels) == [
        *("training objective", "training accuracy", "validation loss", "validation accuracy", "learning rate"),
    ]
    losses, _, validation, *_ = (figure.axes[0].get_lines() for figure in panels.values())
    assert [np.asarray(line.get_xydata()).tolist() for line in losses] == [[[1, 2], [2, 1]], [[1, 2], [2, 1]], []]
    assert [line.get_color() for line in losses[:2]] == [overlays.line_style(0).colour, overlays.line_style(1).colour]
    assert [np.size(line.get_xdata()) for line in validation] == [1, 0, 0]
    assert list(overlays.overlaid_panels([overlays.RunCurves(overlays.line_style(0), without_validation)])) == [
        *("training objective", "training accuracy", "learning rate"),
    ]


def test_line_styles_are_distinct_for_28_runs_and_then_repeat() -> None:
    assert len({overlays.line_style(number) for number in range(40)}) == 28
    assert overlays.line_style(28) == overlays.line_style(0)


def test_accuracy_rows_keep_their_order_and_show_intervals() -> None:
    figure = overlays.accuracy_rows(["one", "two"], [0.9, 0.8], [Interval(0.85, 0.93), Interval(0.75, 0.84)])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    bottom, top = axes.get_ylim()
    assert bottom > top
    bars = [bar for bar in axes.collections if isinstance(bar, LineCollection)]
    ends = [np.asarray(bar.get_segments()[0])[:, 0] for bar in bars]
    np.testing.assert_allclose(ends, [[85, 93], [75, 84]])
