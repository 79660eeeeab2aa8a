import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import fmnist_jax
from fmnist_jax.analysis.calibration import reliability
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.views import scores


def training_record(epoch: float, loss: float, accuracy: float, rate: float) -> dict[str, Any]:
    return {"epoch": epoch, "train_loss": loss, "train_accuracy": accuracy, "learning_rate": rate}


def validation_record(epoch: float, loss: float, accuracy: float) -> dict[str, Any]:
    return {"epoch": epoch, "val_loss": loss, "val_accuracy": accuracy}


RECORDS = [
    training_record(0.5, 2.25, 0.25, 0.1),
    training_record(1.0, 1.5, 0.5, 0.2),
    validation_record(1.0, 1.25, 0.625),
    training_record(2.0, 0.75, 0.75, 0.05),
    validation_record(2.0, 0.5, 0.875),
]


def line_points(axes: Axes) -> list[list[list[float]]]:
    points = (np.asarray(line.get_xydata()).tolist() for line in axes.lines)
    return [line for line in points if line]


def save(figure: Figure, directory: Path) -> None:
    """Draws every element, so that a figure that cannot be drawn fails."""
    path = directory / "figure.png"
    figure.savefig(path, dpi=40)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_curves_plot_the_recorded_values(tmp_path: Path) -> None:
    figure = scores.curves(RECORDS)
    loss, accuracy, rate = figure.axes
    assert line_points(loss) == [[[0.5, 2.25], [1.0, 1.5], [2.0, 0.75]], [[1.0, 1.25], [2.0, 0.5]]]
    assert line_points(accuracy) == [[[0.5, 25.0], [1.0, 50.0], [2.0, 75.0]], [[1.0, 62.5], [2.0, 87.5]]]
    assert line_points(rate) == [[[0.5, 0.1], [1.0, 0.2], [2.0, 0.05]]]
    save(figure, tmp_path)


def test_curves_have_titles_units_axis_labels_and_legends() -> None:
    figure = scores.curves(RECORDS)
    assert [axes.get_title() for axes in figure.axes] == ["Loss (nats)", "Accuracy (%)", "Learning rate"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch"] * 3
    for axes, training_label in zip(figure.axes[:2], ("training objective", "training"), strict=True):
        legend = axes.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()][:2] == [training_label, "validation"]
        assert len({line.get_color() for line in axes.lines}) == 2
        assert len({line.get_linestyle() for line in axes.lines}) == 2


def test_curves_keep_full_accuracy_and_zero_loss_in_view() -> None:
    loss, accuracy, _ = scores.curves([*RECORDS, training_record(3.0, 0.0, 1.0, 0.0)]).axes
    assert loss.get_ylim()[0] == 0
    assert loss.get_ylim()[1] > 2.25
    assert accuracy.get_ylim()[0] < 50
    assert accuracy.get_ylim()[1] > 100


def test_curves_keep_the_validation_accuracy_of_an_overfitted_network_in_view() -> None:
    records = [
        record for i in range(1, 9) for record in (training_record(i, 0.1, 0.99, 0.1), validation_record(i, 2.0, 0.6))
    ]
    bottom, top = scores.curves(records).axes[1].get_ylim()
    assert bottom < 60
    assert top > 99


def test_best_validation_accuracy_is_ringed_at_its_last_occurrence() -> None:
    axes = scores.curves([*RECORDS, validation_record(3.0, 0.6, 0.875), validation_record(4.0, 0.7, 0.5)]).axes[1]
    (ring,) = axes.collections
    np.testing.assert_allclose(np.asarray(ring.get_offsets()), [[3.0, 87.5]])
    assert ring.get_label() == "best validation, 87.50%"


def test_curve_panels_match_the_axes_of_the_combined_figure() -> None:
    combined_axes = scores.curves(RECORDS).axes
    panels = scores.curve_panels(RECORDS)
    assert list(panels) == ["loss", "accuracy", "learning rate"]
    for figure, axes in zip(panels.values(), combined_axes, strict=True):
        (panel_axes,) = figure.axes
        assert line_points(panel_axes) == line_points(axes)
        assert panel_axes.get_title() == axes.get_title()


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(RECORDS[:1], id="one record"),
        pytest.param([RECORDS[2]], id="one evaluation"),
        pytest.param([record for record in RECORDS if "train_loss" in record], id="no validation"),
        pytest.param([], id="no records"),
    ],
)
def test_curves_of_a_short_run_show_the_available_records(records: list[dict[str, Any]], tmp_path: Path) -> None:
    figure = scores.curves(records)
    for axes, name in zip(figure.axes, ("loss", "accuracy"), strict=False):
        logged = [key for key in (f"train_{name}", f"val_{name}") if any(key in record for record in records)]
        assert len(line_points(axes)) == len(logged)
    save(figure, tmp_path)


def test_single_points_are_drawn_with_a_marker() -> None:
    for axes in scores.curves([RECORDS[0], RECORDS[2]]).axes:
        assert all(line.get_marker() not in ("", " ", "None") for line in axes.lines)


def with_members(record: dict[str, Any], count: int) -> dict[str, Any]:
    """The record of a population whose members lie 0.01 apart, centred on it."""
    offsets = 0.01 * (np.arange(count) - (count - 1) / 2)
    members = {key: (record[key] + offsets).tolist() for key in record if key.endswith(("_loss", "_accuracy"))}
    return {**record, "members": members}


def test_curves_of_members_are_thin_and_translucent_below_their_mean(tmp_path: Path) -> None:
    figure = scores.curves([with_members(record, 4) for record in RECORDS])
    for axes, single_axes, scale in zip(figure.axes, scores.curves(RECORDS).axes, (1, 100), strict=False):
        means = [line for line in axes.lines if line.get_alpha() is None]
        assert [np.asarray(line.get_xydata()).tolist() for line in means] == line_points(single_axes)
        for mean in means:
            members = [line for line in axes.lines if line.get_color() == mean.get_color() and line is not mean]
            offsets = [np.mean(np.asarray(line.get_ydata()) - np.asarray(mean.get_ydata())) for line in members]
            np.testing.assert_allclose(offsets, scale * np.array([-0.015, -0.005, 0.005, 0.015]))
            assert all(line.get_linewidth() < mean.get_linewidth() for line in members)
            assert all(line.get_zorder() < mean.get_zorder() for line in members)
            assert all(line.get_alpha() == 0.5 for line in members)
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_title().get_text() == "mean of 4 members"
        expected = single_axes.get_legend_handles_labels()[1]
        assert [text.get_text() for text in legend.get_texts()] == expected
    save(figure, tmp_path)


def test_curves_of_more_than_32_members_are_drawn_as_a_range(tmp_path: Path) -> None:
    figure = scores.curves([with_members(record, 40) for record in RECORDS])
    loss = figure.axes[0]
    assert len(loss.lines) == 2
    heights = [np.unique(np.asarray(band.get_paths()[0].vertices)[:, 1]) for band in loss.collections]
    np.testing.assert_allclose([[values.min(), values.max()] for values in heights], [[0.555, 2.445], [0.305, 1.445]])
    assert len(scores.curves([with_members(record, 32) for record in RECORDS]).axes[0].lines) == 2 * 33
    save(figure, tmp_path)


def test_curves_of_a_single_model_have_no_member_legend() -> None:
    for axes in scores.curves(RECORDS).axes[:2]:
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_title().get_text() == ""


CONFUSION = np.array([[1200, 300, 0], [0, 0, 0], [25, 0, 475]])
NAMES = ["cat", "dog", "owl"]


def test_confusion_matrix_shows_counts_with_true_classes_as_rows(tmp_path: Path) -> None:
    figure = scores.confusion_matrix(CONFUSION, NAMES)
    axes = figure.axes[0]
    texts = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}
    expected = {(0, 0): "1200\n80.0%", (0, 1): "300\n20.0%", (2, 0): "25\n5.0%", (2, 2): "475\n95.0%"}
    assert texts == expected
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES
    assert [label.get_text() for label in axes.get_xticklabels()] == NAMES
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert axes.yaxis_inverted()
    save(figure, tmp_path)


def test_confusion_matrix_is_shaded_by_share_of_the_true_class() -> None:
    axes, bar = scores.confusion_matrix(CONFUSION, NAMES).axes
    image = axes.images[0].get_array()
    assert image is not None
    np.testing.assert_allclose(image, [[80, 20, 0], [0, 0, 0], [5, 0, 95]])
    assert axes.images[0].get_clim() == (0, 100)
    assert bar.get_ylabel() == "share of the true class (%)"


def test_confusion_matrix_counts_contrast_with_their_cells() -> None:
    shares = np.array([[0.1, 0.9], [0.3, 0.7]])
    axes = scores.confusion_matrix((10 * shares).astype(np.int32), ["cat", "dog"]).axes[0]
    shades = axes.images[0].get_cmap()
    assert len(axes.texts) == 4
    for text in axes.texts:
        column, row = (round(coordinate) for coordinate in text.get_position())
        background = np.mean(shades(shares[row, column])[:3])
        assert (text.get_color() == "black") == (background > 0.6)


def test_confusion_matrix_title_shows_correct_and_total_counts() -> None:
    assert scores.confusion_matrix(CONFUSION, NAMES).axes[0].get_title() == "1,675 of 2,000 correct (83.75%)"


def test_confusion_matrix_of_ten_perfect_classes_names_them_all(tmp_path: Path) -> None:
    figure = scores.confusion_matrix(1000 * np.eye(10, dtype=np.int32), CLASS_NAMES)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(CLASS_NAMES)
    assert [text.get_text() for text in axes.texts] == ["1000\n100.0%"] * 10
    assert axes.get_title() == "10,000 of 10,000 correct (100.00%)"
    save(figure, tmp_path)


def test_confusion_matrix_without_examples_is_drawn_empty(tmp_path: Path) -> None:
    figure = scores.confusion_matrix(np.zeros((3, 3), np.int32), NAMES)
    assert not figure.axes[0].texts
    save(figure, tmp_path)


def bar_heights(axes: Axes) -> list[list[float]]:
    return [[patch.get_height() for patch in container] for container in axes.containers]


def test_reliability_diagram_shows_accuracy_and_right_and_wrong_counts_per_bin(tmp_path: Path) -> None:
    confidence = np.array([0.6, 0.6, 0.9, 0.9, 0.9, 0.9])
    bins = reliability(np.stack([confidence, 1 - confidence], axis=1), np.array([0, 1, 0, 0, 0, 1]), bins=4)
    figure = scores.reliability_diagram(bins)
    above, below = figure.axes
    np.testing.assert_allclose(bar_heights(above), [[0.5, 0.75]])
    np.testing.assert_allclose(line_points(above)[0], [[0, 0], [1, 1]])
    np.testing.assert_allclose(line_points(above)[1], [[0.6, 0.5], [0.9, 0.75]])
    assert bar_heights(below) == [[0, 0, 1, 3], [0, 0, 1, 1]]
    assert above.get_title() == "Reliability: expected calibration error 13.33%"
    assert above.get_xlabel() == below.get_xlabel() == "confidence: probability of the predicted class"
    assert (above.get_ylabel(), below.get_ylabel()) == ("accuracy", "images (logarithmic)")
    assert {patch.get_hatch() for patch in below.containers[1]} == {"///"}
    save(figure, tmp_path)


def test_reliability_diagram_without_examples_is_drawn_empty(tmp_path: Path) -> None:
    bins = reliability(np.zeros((0, 10)), np.zeros(0, int))
    save(scores.reliability_diagram(bins), tmp_path)
    assert list(scores.reliability_panels(bins)) == ["reliability", "confidence"]


def test_figures_import_neither_pyplot_nor_jax() -> None:
    code = (
        "import json, sys\n"
        "import numpy as np\n"
        "from fmnist_jax.views import scores\n"
        "scores.curves([]).savefig('/dev/null', format='png')\n"
        "scores.confusion_matrix(np.eye(2, dtype=int), ['a', 'b']).savefig('/dev/null', format='png')\n"
        "print(json.dumps([name for name in ('matplotlib.pyplot', 'jax') if name in sys.modules]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1])}
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert json.loads(completed.stdout) == []


def test_confusion_matrix_of_100_classes_labels_them_all_and_omits_counts(tmp_path: Path) -> None:
    names = [f"class {label}" for label in range(100)]
    figure = scores.confusion_matrix(np.eye(100, dtype=np.int32), names)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert not axes.texts
    assert figure.get_size_inches()[1] * 72 / 100 > 10, "points of height for each name"
    save(figure, tmp_path)


def test_confusion_matrix_of_400_classes_labels_every_second_one(tmp_path: Path) -> None:
    names = tuple(f"class {label}" for label in range(400))
    figure = scores.confusion_matrix(np.eye(400, dtype=np.int32), names)
    assert max(figure.get_size_inches()) <= 33
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == list(names[::2])
    figure.savefig(tmp_path / "figure.png", dpi=30)


def test_curves_of_a_negative_objective_are_in_view() -> None:
    loss = scores.curves([training_record(1.0, -0.2, 0.5, 0.1), training_record(2.0, -0.9, 0.8, 0.1)]).axes[0]
    low, high = loss.get_ylim()
    assert low < -0.9
    assert high > -0.2


def test_confusion_matrix_keeps_its_room_beside_long_names() -> None:
    names = [f"great white shark, man-eating shark, Carcharodon carcharias of kind {label}" for label in range(10)]
    figure = scores.confusion_matrix(np.eye(10, dtype=int), names)
    figure.draw_without_rendering()
    assert figure.axes[0].get_window_extent().width > figure.bbox.width / 2
