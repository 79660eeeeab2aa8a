import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from fmnist_jax.analysis.assessment import Assessment, assess
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.views import images
from fmnist_jax.views.style import BLUE, VERMILLION

# Three images: a trouser classified correctly, a dress as a bag with high confidence, a coat as a shirt with less.
_IMAGES = np.stack([np.full((28, 28, 1), level, np.uint8) for level in (10, 20, 30)])
_LABELS = np.array([1, 3, 4], np.int32)


@pytest.fixture
def assessment() -> Assessment:
    logits = np.zeros((3, 10), np.float32)
    logits[[0, 1, 2], [1, 8, 6]] = [3.0, 9.0, 2.0]
    return assess(logits, _LABELS)


def test_prediction_titles_show_class_confidence_and_correctness(assessment: Assessment) -> None:
    figure = images.prediction_grid(_IMAGES, assessment, np.array([0, 1]), CLASS_NAMES)
    right, wrong = figure.axes[:2]
    assert right.get_title() == f"✓ Trouser\n{assessment.probabilities[0, 1]:.1%}"
    assert wrong.get_title() == f"✗ Bag\n{assessment.probabilities[1, 8]:.1%}"
    assert (right.get_xlabel(), wrong.get_xlabel()) == ("#0", "is Dress (#1)")
    frames = [to_hex(axes.spines["left"].get_edgecolor()).upper() for axes in (right, wrong)]
    assert frames == [BLUE, VERMILLION]
    for axes, level in ((right, 10), (wrong, 20)):
        pixels = axes.images[0].get_array()
        assert pixels is not None
        assert np.unique(pixels).tolist() == [255 - level]
    assert not any(axes.axison for axes in figure.axes[2:])


def test_long_class_names_do_not_overlap_their_neighbours() -> None:
    names = [f"long-sleeved waterproof mountain jacket of kind {number}" for number in range(10)]
    logits = np.eye(10, dtype=np.float32)[[2, 3, 4]]
    figures = [
        images.prediction_grid(_IMAGES, assess(logits, _LABELS), np.arange(3), names),
        images.average_images(np.zeros((3, 28, 28, 1)), names[:3], np.ones(3, int)),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        for texts in zip(*((axes.title, axes.xaxis.label) for axes in figure.axes[:3]), strict=True):
            boxes = [text.get_window_extent() for text in texts]
            assert boxes[0].x0 >= 0
            assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))


def test_misclassified_grid_is_sorted_by_confidence_and_limited_by_count(assessment: Assessment) -> None:
    figure = images.misclassified_grid(_IMAGES, assessment, CLASS_NAMES)
    titles = [axes.get_title() for axes in figure.axes if axes.axison]
    assert [title.split("\n")[0] for title in titles] == ["✗ Bag", "✗ Shirt"]
    figure = images.misclassified_grid(_IMAGES, assessment, CLASS_NAMES, count=1)
    assert len([axes for axes in figure.axes if axes.axison]) == 1


def test_misclassified_grid_without_mistakes_says_so() -> None:
    assessment = assess(9 * np.eye(10, dtype=np.float32)[_LABELS], _LABELS)
    figure = images.misclassified_grid(_IMAGES, assessment, CLASS_NAMES)
    assert [text.get_text() for text in figure.axes[0].texts] == ["no image to show"]


def test_sample_grid_has_one_row_per_class_that_occurs() -> None:
    figure = images.sample_grid(_IMAGES[[0, 1, 2, 0]], np.array([1, 3, 4, 1]), CLASS_NAMES, per_class=2)
    assert [axes.get_ylabel() for axes in figure.axes] == ["Trouser", "Dress", "Coat"]
    widths = [axes.images[0].get_size()[1] for axes in figure.axes]
    assert widths == [56, 28, 28]


@pytest.mark.parametrize("classes", [1, 3, 7, 10])
def test_average_images_are_drawn_with_names_and_counts(classes: int, tmp_path: Path) -> None:
    averages = np.linspace(0, 255, classes * 676).reshape(classes, 26, 26, 1)
    averages = np.pad(averages, ((0, 0), (1, 1), (1, 1), (0, 0)))
    figure = images.average_images(averages, CLASS_NAMES[:classes], 1000 * np.arange(classes))
    visible_axes = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in visible_axes] == list(CLASS_NAMES[:classes])
    assert [axes.get_xlabel() for axes in visible_axes] == [f"{1000 * label:,} images" for label in range(classes)]
    for axes, average in zip(visible_axes, averages, strict=True):
        np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), 255 - average[..., 0])
    path = tmp_path / "figure.png"
    figure.savefig(path, dpi=40)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_average_images_show_the_first_400_classes_of_more() -> None:
    names = [str(label) for label in range(1000)]
    figure = images.average_images(np.zeros((1000, 8, 8, 1)), names, np.ones(1000, int))
    assert [axes.get_title() for axes in figure.axes] == names[:400]


def test_colour_images_keep_their_colours() -> None:
    green = np.zeros((2, 8, 9, 3), np.uint8)
    green[..., 1] = 200
    (axes,) = images.labelled_rows({"green": green}).axes
    np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), np.concatenate(list(green), 1))
    (axes,) = images.average_images(green[:1] + 0.3, ["green"], np.array([2])).axes
    np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), green[0])


def test_image_that_fills_its_frame_is_negated_like_the_others(assessment: Assessment) -> None:
    filled = np.concatenate([_IMAGES[:2], np.full((1, 28, 28, 1), 200, np.uint8)])
    (axes, *_) = images.prediction_grid(filled, assessment, np.array([2]), CLASS_NAMES).axes
    assert np.unique(np.asarray(axes.images[0].get_array())).tolist() == [55]


def test_empty_classes_do_not_cause_photographs_to_be_negated() -> None:
    averages = np.zeros((5, 8, 8, 1))
    averages[1] = 180
    figure = images.average_images(averages, list("abcde"), np.array([0, 9, 0, 0, 0]))
    assert np.unique(np.asarray(figure.axes[1].images[0].get_array())).tolist() == [180]


def test_labelled_rows_of_different_sizes_and_colours_share_one_figure() -> None:
    rows = {"large": np.zeros((2, 28, 28, 1), np.uint8), "small": np.full((2, 14, 14, 1), 90, np.uint8)}
    large, small, red = images.labelled_rows({**rows, "red": np.full((2, 14, 14, 3), 9, np.uint8)}).axes
    for axes, expected in ((large, 255), (small, 165), (red, 9)):  # negated or not by the majority of the backgrounds
        assert np.unique(np.asarray(axes.images[0].get_array())).tolist() == [expected]


def test_figure_becomes_wider_but_not_higher_for_wide_images() -> None:
    square, wide = (images.labelled_rows({"a": np.zeros((3, 28, 28 * ratio, 1), np.uint8)}) for ratio in (1, 3))
    assert wide.get_figwidth() > 2 * square.get_figwidth()
    assert wide.get_figheight() == square.get_figheight()


def test_sample_grid_shows_only_the_first_40_classes() -> None:
    labels = np.arange(50)
    figure = images.sample_grid(np.zeros((50, 8, 8, 1), np.uint8), labels, [str(label) for label in labels])
    assert [axes.get_ylabel() for axes in figure.axes] == [str(label) for label in range(40)]
