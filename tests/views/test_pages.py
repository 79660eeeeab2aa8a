import base64
import io

import jinja2
import numpy as np
import pytest
from PIL import Image

from fmnist_jax.views import pages


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


def test_a_photo_stands_in_its_address_and_is_small() -> None:
    y, x = np.mgrid[:200, :150]
    photo = np.stack([y, x, y // 2 + x // 2], -1).astype(np.uint8)
    uri = pages.jpeg_uri(photo)
    head, pixels = opened(uri)
    assert head == "data:image/jpeg;base64"
    assert np.abs(pixels.astype(int) - photo).mean() < 3
    assert len(uri) < 10_000


def test_a_template_escapes_and_writes_shares_and_knows_what_is_missing() -> None:
    environment = pages.template("report.html").environment
    assert (
        environment.from_string("{{ a }} {{ b | percent(2) }} {{ c | percent }}").render(
            a="<b>", b=0.12345, c=float("nan")
        )
        == "&lt;b&gt; 12.35% –"  # noqa: RUF001
    )
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ a }}").render()
