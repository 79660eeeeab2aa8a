from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.views.photos import photo_sheet


def save(figure: Figure, directory: Path) -> None:
    """Draws every element, so that a figure that cannot be drawn fails."""
    path = directory / "figure.png"
    figure.savefig(path, dpi=40)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_photo_sheet_shows_photo_box_network_input_and_top_classes(count: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    thumbnails = [rng.integers(0, 256, (40, 20 + index, 3), dtype=np.uint8) for index in range(count)]
    images = rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    probabilities = np.tile([0.1, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0, 0.7, 0.0, 0.0], (count, 1))
    doubts = [("a pair", "low probability"), (), ()][:count]
    figure = photo_sheet(
        thumbnails, [(0.25, 0.1, 0.75, 0.5)] * count, images, probabilities, CLASS_NAMES, doubts=doubts
    )
    # The axes of the bars have no ticks either, so `axison` distinguishes used axes from empty ones.
    visible_axes = [axes for axes in figure.axes if axes.axison]
    assert len(visible_axes) == 3 * count
    for index in range(count):
        photo, network_input, bars = visible_axes[3 * index : 3 * index + 3]
        np.testing.assert_array_equal(np.asarray(photo.images[0].get_array()), thumbnails[index])
        box = next(patch for patch in photo.patches if isinstance(patch, Rectangle))
        width = thumbnails[index].shape[1]
        assert (box.get_x(), box.get_y()) == pytest.approx((0.25 * width - 0.5, 3.5))
        assert (box.get_width(), box.get_height()) == pytest.approx((0.5 * width, 16))
        np.testing.assert_array_equal(np.asarray(network_input.images[0].get_array()), images[index, ..., 0])
        assert [text.get_text() for text in bars.texts] == ["Sneaker  70.0%", "Pullover  20.0%", "T-shirt/top  10.0%"]
        assert bars.get_xlabel().startswith("unsure: a pair, low" if index == 0 else "")
        assert bool(bars.get_xlabel()) == (index == 0)
        lengths = [bar.get_width() for bar in bars.patches if isinstance(bar, Rectangle)]
        assert lengths == pytest.approx([0.7, 0.2, 0.1])
    save(figure, tmp_path)


def test_photo_sheet_draws_colour_inputs_unchanged() -> None:
    network_inputs = np.random.default_rng(0).integers(0, 256, (1, 8, 9, 3), dtype=np.uint8)
    figure = photo_sheet([network_inputs[0]], [(0, 0, 1, 1)], network_inputs, np.ones((1, 1)), ["one"], doubts=[()])
    np.testing.assert_array_equal(np.asarray(figure.axes[1].images[0].get_array()), network_inputs[0])
