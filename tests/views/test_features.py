from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from fmnist_jax.analysis.inspection import Projection, principal_plane
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.views import features

_RNG = np.random.default_rng(0)


def drawn_images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


@pytest.mark.parametrize("count", [1, 8, 11])
def test_filters_draws_every_kernel_on_one_symmetric_colour_scale(count: int, tmp_path: Path) -> None:
    kernels = _RNG.normal(size=(count, 3, 3))
    figure = features.filters(kernels)
    image_axes = [axes for axes in figure.axes if axes.images]
    np.testing.assert_array_equal(drawn_images(figure)[:count], kernels)
    limit = np.abs(kernels).max()
    assert {axes.images[0].get_clim() for axes in image_axes if axes.get_title()} == {(-limit, limit)}
    assert [axes.get_title() for axes in image_axes][:count] == [str(number) for number in range(count)]
    assert figure.axes[-1].get_ylabel() == "weight"
    figure.savefig(tmp_path / "figure.png", dpi=40)


def test_activation_maps_sort_channels_by_activity_and_number_them(tmp_path: Path) -> None:
    layers = [_RNG.normal(size=(14, 14, 3)) + np.array([1, 3, 2]), np.ones((7, 7, 12)) * np.arange(12)]
    image = np.zeros((28, 28, 1), np.uint8)
    figure = features.activation_maps(image, layers, "a boot")
    rows = [axes.get_ylabel() for axes in figure.axes if "channels" in axes.get_ylabel()]
    assert rows == ["layer 1\n14x14\n3 channels", "layer 2\n7x7\n12 channels"]
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["1", "2", "0", *(str(number) for number in range(11, 1, -1))]
    assert np.array_equal(drawn_images(figure)[1], layers[0][..., 1])
    assert figure.get_suptitle().startswith("a boot")
    figure.savefig(tmp_path / "figure.png", dpi=40)


def test_deep_and_wide_networks_are_subsampled_keeping_first_and_last_layer() -> None:
    layers = [np.full((2, 2, 1), number, np.float32) for number in range(30)]
    figure = features.activation_maps(np.zeros((28, 28, 1), np.uint8), layers, "a boot")
    rows = [axes.get_ylabel().split("\n")[0] for axes in figure.axes if "channels" in axes.get_ylabel()]
    assert len(rows) == 8
    assert (rows[0], rows[-1]) == ("layer 1", "layer 30")
    figure = features.filters(_RNG.normal(size=(100, 3, 3)))
    assert len([axes for axes in figure.axes if axes.get_title()]) == 64
    assert figure.get_suptitle() == "64 of 100 kernels of the first convolution, 3x3 pixels"


def test_embedding_map_has_a_point_per_image_and_a_name_and_marker_per_class(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(10), 4)
    points = _RNG.normal(size=(40, 2))
    figure = features.embedding_map(Projection(points, np.array([0.5, 0.25])), labels, CLASS_NAMES)
    axes = figure.axes[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(CLASS_NAMES)
    for label, collection in enumerate(axes.collections):
        np.testing.assert_allclose(np.asarray(collection.get_offsets()), points[labels == label])
    assert len({str(collection.get_facecolor()) for collection in axes.collections}) == 10
    assert len({str(collection.get_paths()[0].vertices) for collection in axes.collections}) == 10
    assert {text.get_text() for text in axes.texts} == set(CLASS_NAMES)
    assert axes.get_xlabel() == "first principal component (50% of the variance)"
    assert axes.get_ylabel() == "second principal component (25% of the variance)"
    figure.savefig(tmp_path / "figure.png", dpi=40)


@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0])
def test_class_names_on_overlapping_clusters_do_not_cover_each_other(spread: float) -> None:
    labels = np.repeat(np.arange(5), 3)
    points = np.concatenate([spread * _RNG.normal(size=(15, 2)), [[10.0, 10.0]]])
    projection = Projection(points, np.array([0.5, 0.25]))
    figure = features.embedding_map(projection, np.append(labels, 9), CLASS_NAMES)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    overlapping = [
        (i, j) for i in range(6) for j in range(i) if boxes[i].shrunk(0.8, 0.7).overlaps(boxes[j].shrunk(0.8, 0.7))
    ]
    assert overlapping == []


def test_embedding_map_of_coincident_points_omits_the_variance_share() -> None:
    figure = features.embedding_map(principal_plane(np.ones((2, 5))), np.array([0, 1]), CLASS_NAMES)
    assert figure.axes[0].get_xlabel() == "first principal component"


def test_saliency_maps_show_each_image_above_its_normalized_saliency(tmp_path: Path) -> None:
    images = np.pad(_RNG.integers(0, 256, (3, 26, 26, 1), dtype=np.uint8), ((0, 0), (1, 1), (1, 1), (0, 0)))
    saliency = np.abs(_RNG.normal(size=(3, 28, 28)))
    saliency[2] = 0
    figure = features.saliency_maps(images, saliency, ["Coat", "Bag", "Shirt"])
    above, below = drawn_images(figure)[:3], drawn_images(figure)[3:6]
    np.testing.assert_array_equal(above, 255 - images[..., 0].astype(int))
    np.testing.assert_allclose(below[:2], saliency[:2] / saliency[:2].max((1, 2), keepdims=True))
    assert not below[2].any()
    assert [axes.get_title() for axes in figure.axes[:3]] == ["Coat", "Bag", "Shirt"]
    assert figure.axes[-1].get_ylabel() == "share of the largest gradient"
    figure.savefig(tmp_path / "figure.png", dpi=40)


def test_rgb_kernels_are_drawn_as_colours_centred_on_grey(tmp_path: Path) -> None:
    kernels = np.zeros((2, 3, 3, 3))
    kernels[0, 0, 0] = (1.0, -1.0, 0.5)
    figure = features.filters(kernels)
    first, second = drawn_images(figure)
    np.testing.assert_allclose(first[0, 0], (1.0, 0.0, 0.75))
    assert (second == 0.5).all()
    assert not any(axes.get_ylabel() == "weight" for axes in figure.axes)
    figure.savefig(tmp_path / "figure.png", dpi=40)


def test_embedding_map_of_400_classes_keeps_all_points_and_omits_the_legend(tmp_path: Path) -> None:
    names = [f"class {label}" for label in range(400)]
    figure = features.embedding_map(Projection(_RNG.normal(size=(800, 2)), np.ones(2)), np.arange(800) % 400, names)
    assert not figure.legends
    assert len(figure.axes[0].collections) == 400
    figure.savefig(tmp_path / "figure.png", dpi=40)


def test_embedding_map_of_100_classes_lists_them_in_the_legend_only(tmp_path: Path) -> None:
    names = [f"_class {label}" for label in range(100)]
    figure = features.embedding_map(Projection(_RNG.normal(size=(200, 2)), np.ones(2)), np.arange(200) % 100, names)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    marks = figure.axes[0].collections
    assert len({(str(mark.get_facecolor()), str(mark.get_paths()[0].vertices)) for mark in marks}) == 100
    assert not figure.axes[0].texts
    figure.savefig(tmp_path / "figure.png", dpi=40)
