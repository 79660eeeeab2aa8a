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


def training(epoch: float, loss: float, accuracy: float, rate: float) -> dict[str, Any]:
    return {"epoch": epoch, "train_loss": loss, "train_accuracy": accuracy, "learning_rate": rate}


def validation(epoch: float, loss: float, accuracy: float) -> dict[str, Any]:
    return {"epoch": epoch, "val_loss": loss, "val_accuracy": accuracy}


RECORDS = [
    training(0.5, 2.25, 0.25, 0.1),
    training(1.0, 1.5, 0.5, 0.2),
    validation(1.0, 1.25, 0.625),
    training(2.0, 0.75, 0.75, 0.05),
    validation(2.0, 0.5, 0.875),
]


def lines(axes: Axes) -> list[list[list[float]]]:
    points = (np.asarray(line.get_xydata()).tolist() for line in axes.lines)
    return [each for each in points if each]


def save(figure: Figure, directory: Path) -> None:
    """Lays out and draws every element, which is where a figure that cannot be drawn fails."""
    path = directory / "figure.png"
    figure.savefig(path, dpi=40)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_curves_show_the_values_of_the_records(tmp_path: Path) -> None:
    figure = scores.curves(RECORDS)
    loss, accuracy, rate = figure.axes
    assert lines(loss) == [[[0.5, 2.25], [1.0, 1.5], [2.0, 0.75]], [[1.0, 1.25], [2.0, 0.5]]]
    assert lines(accuracy) == [[[0.5, 25.0], [1.0, 50.0], [2.0, 75.0]], [[1.0, 62.5], [2.0, 87.5]]]
    assert lines(rate) == [[[0.5, 0.1], [1.0, 0.2], [2.0, 0.05]]]
    save(figure, tmp_path)


def test_curves_say_what_they_show_and_in_what_unit() -> None:
    figure = scores.curves(RECORDS)
    assert [axes.get_title() for axes in figure.axes] == ["Loss (nats)", "Accuracy (%)", "Learning rate"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch"] * 3
    for axes, training_label in zip(figure.axes[:2], ("training objective", "training"), strict=True):
        legend = axes.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()][:2] == [training_label, "validation"]
        assert len({line.get_color() for line in axes.lines}) == 2
        assert len({line.get_linestyle() for line in axes.lines}) == 2


def test_curves_keep_the_best_accuracy_and_a_loss_of_zero_in_view() -> None:
    loss, accuracy, _ = scores.curves([*RECORDS, training(3.0, 0.0, 1.0, 0.0)]).axes
    assert loss.get_ylim()[0] == 0
    assert loss.get_ylim()[1] > 2.25
    assert accuracy.get_ylim()[0] < 50
    assert accuracy.get_ylim()[1] > 100


def test_the_validation_accuracy_of_a_network_that_overfits_is_in_view() -> None:
    records = [each for i in range(1, 9) for each in (training(i, 0.1, 0.99, 0.1), validation(i, 2.0, 0.6))]
    bottom, top = scores.curves(records).axes[1].get_ylim()
    assert bottom < 60
    assert top > 99


def test_the_best_validation_accuracy_is_ringed_the_later_of_two_that_are_equal() -> None:
    axes = scores.curves([*RECORDS, validation(3.0, 0.6, 0.875), validation(4.0, 0.7, 0.5)]).axes[1]
    (ring,) = axes.collections
    np.testing.assert_allclose(np.asarray(ring.get_offsets()), [[3.0, 87.5]])
    assert ring.get_label() == "best validation, 87.50%"


def test_panels_show_what_the_curves_show_each_by_itself() -> None:
    together = scores.curves(RECORDS).axes
    panels = scores.curve_panels(RECORDS)
    assert list(panels) == ["loss", "accuracy", "learning rate"]
    for figure, axes in zip(panels.values(), together, strict=True):
        (alone,) = figure.axes
        assert lines(alone) == lines(axes)
        assert alone.get_title() == axes.get_title()


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(RECORDS[:1], id="one record"),
        pytest.param([RECORDS[2]], id="one evaluation"),
        pytest.param([record for record in RECORDS if "train_loss" in record], id="no validation"),
        pytest.param([], id="none"),
    ],
)
def test_curves_of_a_short_run_show_what_there_is(records: list[dict[str, Any]], tmp_path: Path) -> None:
    figure = scores.curves(records)
    for axes, name in zip(figure.axes, ("loss", "accuracy"), strict=False):
        shown = [key for key in (f"train_{name}", f"val_{name}") if any(key in record for record in records)]
        assert len(lines(axes)) == len(shown)
    save(figure, tmp_path)


def test_a_single_point_is_marked_because_no_line_passes_through_it() -> None:
    for axes in scores.curves([RECORDS[0], RECORDS[2]]).axes:
        assert all(line.get_marker() not in ("", " ", "None") for line in axes.lines)


def with_members(record: dict[str, Any], count: int) -> dict[str, Any]:
    """The record of a population whose members lie one by one 0.01 apart around it."""
    apart = 0.01 * (np.arange(count) - (count - 1) / 2)
    own = {key: (record[key] + apart).tolist() for key in record if key.endswith(("_loss", "_accuracy"))}
    return {**record, "members": own}


def test_curves_of_members_lie_thin_and_light_under_their_mean(tmp_path: Path) -> None:
    figure = scores.curves([with_members(record, 4) for record in RECORDS])
    for axes, alone, scale in zip(figure.axes, scores.curves(RECORDS).axes, (1, 100), strict=False):
        means = [line for line in axes.lines if line.get_alpha() is None]
        assert [np.asarray(line.get_xydata()).tolist() for line in means] == lines(alone)
        for mean in means:
            members = [line for line in axes.lines if line.get_color() == mean.get_color() and line is not mean]
            found = [np.mean(np.asarray(line.get_ydata()) - np.asarray(mean.get_ydata())) for line in members]
            np.testing.assert_allclose(found, scale * np.array([-0.015, -0.005, 0.005, 0.015]))
            assert all(line.get_linewidth() < mean.get_linewidth() for line in members)
            assert all(line.get_zorder() < mean.get_zorder() for line in members)
            assert all(line.get_alpha() == 0.5 for line in members)
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_title().get_text() == "mean of 4 members"
        expected = alone.get_legend_handles_labels()[1]
        assert [text.get_text() for text in legend.get_texts()] == expected
    save(figure, tmp_path)


def test_of_more_members_than_can_be_told_apart_the_range_is_drawn(tmp_path: Path) -> None:
    figure = scores.curves([with_members(record, 40) for record in RECORDS])
    loss = figure.axes[0]
    assert len(loss.lines) == 2
    heights = [np.unique(np.asarray(band.get_paths()[0].vertices)[:, 1]) for band in loss.collections]
    np.testing.assert_allclose([[each.min(), each.max()] for each in heights], [[0.555, 2.445], [0.305, 1.445]])
    assert len(scores.curves([with_members(record, 32) for record in RECORDS]).axes[0].lines) == 2 * 33
    save(figure, tmp_path)


def test_one_model_has_no_members_in_its_curves() -> None:
    for axes in scores.curves(RECORDS).axes[:2]:
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_title().get_text() == ""


CONFUSION = np.array([[1200, 300, 0], [0, 0, 0], [25, 0, 475]])
NAMES = ["cat", "dog", "owl"]


def test_confusion_matrix_shows_true_classes_by_row_and_the_counts(tmp_path: Path) -> None:
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


def test_counts_can_be_read_on_their_shade() -> None:
    shares = np.array([[0.1, 0.9], [0.3, 0.7]])
    axes = scores.confusion_matrix((10 * shares).astype(np.int32), ["cat", "dog"]).axes[0]
    shades = axes.images[0].get_cmap()
    assert len(axes.texts) == 4
    for text in axes.texts:
        column, row = (round(place) for place in text.get_position())
        background = np.mean(shades(shares[row, column])[:3])
        assert (text.get_color() == "black") == (background > 0.6)


def test_title_counts_what_is_right_out_of_how_many() -> None:
    assert scores.confusion_matrix(CONFUSION, NAMES).axes[0].get_title() == "1,675 of 2,000 correct (83.75%)"


def test_confusion_matrix_of_ten_perfect_classes_names_them_all(tmp_path: Path) -> None:
    figure = scores.confusion_matrix(1000 * np.eye(10, dtype=np.int32), CLASS_NAMES)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(CLASS_NAMES)
    assert [text.get_text() for text in axes.texts] == ["1000\n100.0%"] * 10
    assert axes.get_title() == "10,000 of 10,000 correct (100.00%)"
    save(figure, tmp_path)


def test_confusion_matrix_without_any_example_is_drawn_empty(tmp_path: Path) -> None:
    figure = scores.confusion_matrix(np.zeros((3, 3), np.int32), NAMES)
    assert not figure.axes[0].texts
    save(figure, tmp_path)


def bars(axes: Axes) -> list[list[float]]:
    return [[patch.get_height() for patch in container] for container in axes.containers]


def test_reliability_shows_each_bins_accuracy_and_its_examples_right_and_wrong(tmp_path: Path) -> None:
    sure = np.array([0.6, 0.6, 0.9, 0.9, 0.9, 0.9])
    bins = reliability(np.stack([sure, 1 - sure], axis=1), np.array([0, 1, 0, 0, 0, 1]), bins=4)
    figure = scores.reliability_diagram(bins)
    above, below = figure.axes
    np.testing.assert_allclose(bars(above), [[0.5, 0.75]])
    np.testing.assert_allclose(lines(above)[0], [[0, 0], [1, 1]])
    np.testing.assert_allclose(lines(above)[1], [[0.6, 0.5], [0.9, 0.75]])
    assert bars(below) == [[0, 0, 1, 3], [0, 0, 1, 1]]
    assert above.get_title() == "Reliability: expected calibration error 13.33%"
    assert above.get_xlabel() == below.get_xlabel() == "confidence: probability of the predicted class"
    assert (above.get_ylabel(), below.get_ylabel()) == ("accuracy", "images (logarithmic)")
    assert {patch.get_hatch() for patch in below.containers[1]} == {"///"}
    save(figure, tmp_path)


def test_reliability_without_examples_is_drawn_empty(tmp_path: Path) -> None:
    bins = reliability(np.zeros((0, 10)), np.zeros(0, int))
    save(scores.reliability_diagram(bins), tmp_path)
    assert list(scores.reliability_panels(bins)) == ["reliability", "confidence"]


def test_figures_use_no_pyplot() -> None:
    code = (
        "import json, sys\n"
        "import numpy as np\n"
        "from fmnist_jax.views import scores\n"
        "scores.curves([]).savefig('/dev/null', format='png')\n"
        "scores.confusion_matrix(np.eye(2, dtype=int), ['a', 'b']).savefig('/dev/null', format='png')\n"
        "print(json.dumps([name for name in ('matplotlib.pyplot', 'jax') if name in sys.modules]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout) == []


def test_confusion_matrix_of_a_hundred_classes_names_them_and_tells_shares_by_colour(tmp_path: Path) -> None:
    names = [f"class {label}" for label in range(100)]
    figure = scores.confusion_matrix(np.eye(100, dtype=np.int32), names)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert not axes.texts
    assert figure.get_size_inches()[1] * 72 / 100 > 10, "points of height for each name"
    save(figure, tmp_path)


def test_of_more_classes_than_a_page_has_room_for_some_are_named(tmp_path: Path) -> None:
    names = tuple(f"class {label}" for label in range(400))
    figure = scores.confusion_matrix(np.eye(400, dtype=np.int32), names)
    assert max(figure.get_size_inches()) <= 33
    named = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert named == list(names[::2])
    figure.savefig(tmp_path / "figure.png", dpi=30)
