from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.views.photos import photo_sheet


def save(figure: Figure, directory: Path) -> None:
    """Lays out and draws every element, which is where a figure that cannot be drawn fails."""
    path = directory / "figure.png"
    figure.savefig(path, dpi=40)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_sheet_shows_picture_object_what_was_seen_and_the_likeliest(count: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    thumbnails = [rng.integers(0, 256, (40, 20 + place, 3), dtype=np.uint8) for place in range(count)]
    images = rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    probabilities = np.tile([0.1, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0, 0.7, 0.0, 0.0], (count, 1))
    doubts = [("a pair", "low probability"), (), ()][:count]
    figure = photo_sheet(
        thumbnails, [(0.25, 0.1, 0.75, 0.5)] * count, images, probabilities, CLASS_NAMES, doubts=doubts
    )
    # Bars are drawn on axes without ticks too, so what is drawn on tells a place from an empty one.
    drawn = [axes for axes in figure.axes if axes.axison]
    assert len(drawn) == 3 * count
    for place in range(count):
        photo, seen, bars = drawn[3 * place : 3 * place + 3]
        np.testing.assert_array_equal(np.asarray(photo.images[0].get_array()), thumbnails[place])
        box = next(patch for patch in photo.patches if isinstance(patch, Rectangle))
        width = thumbnails[place].shape[1]
        assert (box.get_x(), box.get_y()) == pytest.approx((0.25 * width - 0.5, 3.5))
        assert (box.get_width(), box.get_height()) == pytest.approx((0.5 * width, 16))
        np.testing.assert_array_equal(np.asarray(seen.images[0].get_array()), images[place, ..., 0])
        assert [text.get_text() for text in bars.texts] == ["Sneaker  70.0%", "Pullover  20.0%", "T-shirt/top  10.0%"]
        assert bars.get_xlabel().startswith("unsure: a pair, low" if place == 0 else "")
        assert bool(bars.get_xlabel()) == (place == 0)
        lengths = [bar.get_width() for bar in bars.patches if isinstance(bar, Rectangle)]
        assert lengths == pytest.approx([0.7, 0.2, 0.1])
    save(figure, tmp_path)


def test_colours_that_the_network_saw_are_drawn_as_they_are() -> None:
    seen = np.random.default_rng(0).integers(0, 256, (1, 8, 9, 3), dtype=np.uint8)
    figure = photo_sheet([seen[0]], [(0, 0, 1, 1)], seen, np.ones((1, 1)), ["one"], doubts=[()])
    np.testing.assert_array_equal(np.asarray(figure.axes[1].images[0].get_array()), seen[0])
