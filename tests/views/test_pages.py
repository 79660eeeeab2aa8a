"""What the pages share: text stays text, a missing name is an error, figures take the page's colours."""

import base64
import io
import math

import jinja2
import numpy as np
import pytest
from PIL import Image

from fmnist_jax.views import pages
from fmnist_jax.views.style import BLUE, new_figure


def test_a_name_that_the_template_does_not_get_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        pages.render("comparison.html")


def test_shares_are_text_and_what_is_none_a_dash() -> None:
    assert pages.percent(0.12345, 2) == "12.35%"
    assert pages.percent(None) == pages.percent(math.nan) == "–"  # noqa: RUF001


def test_a_figure_takes_the_colours_of_the_page_and_the_width_of_its_place() -> None:
    figure = new_figure(2, 2)
    figure.subplots().plot([0, 1], color=BLUE)
    drawing = pages.svg(figure)
    assert pages.css_colour(BLUE) == "var(--right)"
    assert "var(--right)" in drawing
    assert "#0072b2" not in drawing
    assert "width=" not in drawing.partition(">")[0].replace("stroke-width", "")
    assert pages.css_colour("#009E73") == "#009E73"


def opened(uri: str) -> tuple[str, np.ndarray]:
    head, _, content = uri.partition(",")
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        return head, np.asarray(image)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_stands_in_its_address(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (28, 20, channels), dtype=np.uint8)
    head, pixels = opened(pages.png_uri(image))
    assert head == "data:image/png;base64"
    np.testing.assert_array_equal(pixels.reshape(image.shape), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_image_is_shrunk_into_its_address_and_a_small_one_is_exact(channels: int) -> None:
    image = np.broadcast_to(np.arange(0, 200, 2, dtype=np.uint8)[:, None, None], (100, 300, channels))
    head, pixels = opened(pages.thumbnail_uri(image, 96))
    assert head == "data:image/jpeg;base64"
    assert pixels.shape[:2] == (32, 96)
    expected = 2 * (3.125 * np.arange(32) + 1.0625)  # the mean of as many rows
    assert np.abs(pixels.reshape(32, 96, channels) - expected[:, None, None]).max() < 6
    assert pages.thumbnail_uri(image, 300) == pages.png_uri(image)


def test_a_photo_stands_in_its_address_and_is_small() -> None:
    y, x = np.mgrid[:200, :150]
    photo = np.stack([y, x, y // 2 + x // 2], -1).astype(np.uint8)
    uri = pages.jpeg_uri(photo)
    head, pixels = opened(uri)
    assert head == "data:image/jpeg;base64"
    assert np.abs(pixels.astype(int) - photo).mean() < 3
    assert len(uri) < 10_000
