"""Helpers that the pages share: templates, percentages, figures as SVG, and images as data URIs."""

import base64
import io
import math

import jinja2
import numpy as np
import pytest
from PIL import Image

from fmnist_jax.views import pages
from fmnist_jax.views.style import BLUE, new_figure


def test_render_raises_on_undefined_template_variables() -> None:
    with pytest.raises(jinja2.UndefinedError):
        pages.render("comparison.html")


def test_decimals_formats_a_loss_and_shows_a_dash_if_it_is_not_finite() -> None:
    assert [pages.decimals(value) for value in (0.21234, math.inf, math.nan)] == ["0.2123", "–", "–"]  # noqa: RUF001


def test_svg_uses_css_colours_and_has_no_fixed_width() -> None:
    figure = new_figure(2, 2)
    figure.subplots().plot([0, 1], color=BLUE)
    drawing = pages.svg(figure)
    assert pages.css_colour(BLUE) == "var(--right)"
    assert "var(--right)" in drawing
    assert "#0072b2" not in drawing
    assert "width=" not in drawing.partition(">")[0].replace("stroke-width", "")
    assert pages.css_colour("#009E73") == "#009E73"


def decode_uri(uri: str) -> tuple[str, np.ndarray]:
    head, _, content = uri.partition(",")
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        return head, np.asarray(image)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_uri_embeds_the_image_losslessly(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (28, 20, channels), dtype=np.uint8)
    head, pixels = decode_uri(pages.png_uri(image))
    assert head == "data:image/png;base64"
    np.testing.assert_array_equal(pixels.reshape(image.shape), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnail_uri_shrinks_large_images_and_keeps_small_ones_exact(channels: int) -> None:
    image = np.broadcast_to(np.arange(0, 200, 2, dtype=np.uint8)[:, None, None], (100, 300, channels))
    head, pixels = decode_uri(pages.thumbnail_uri(image, 96))
    assert head == "data:image/jpeg;base64"
    assert pixels.shape[:2] == (32, 96)
    expected = 2 * (3.125 * np.arange(32) + 1.0625)  # each the mean of 3.125 rows
    assert np.abs(pixels.reshape(32, 96, channels) - expected[:, None, None]).max() < 6
    small = image[:30, :40]
    assert pages.thumbnail_uri(small, 96) == pages.png_uri(small)


def test_thumbnail_uri_of_a_photo_that_need_not_shrink_is_small_nevertheless() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    head, pixels = decode_uri(pages.thumbnail_uri(noise, 96))
    assert (head, pixels.shape) == ("data:image/jpeg;base64", noise.shape)
    assert pages.thumbnail_uri(noise[:32, :32], 96).startswith("data:image/png")


def test_jpeg_uri_embeds_a_photo_in_few_bytes() -> None:
    y, x = np.mgrid[:200, :150]
    photo = np.stack([y, x, y // 2 + x // 2], -1).astype(np.uint8)
    uri = pages.jpeg_uri(photo)
    head, pixels = decode_uri(uri)
    assert head == "data:image/jpeg;base64"
    assert np.abs(pixels.astype(int) - photo).mean() < 3
    assert len(uri) < 10_000
