"""What the HTML pages share: templates, images embedded in the page, and figures in the page's colours."""

import base64
import io
import re
from typing import Any

import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from fmnist_jax.views.style import BLUE, GREY, NO_NUMBER, VERMILLION, percent

_MAX_LOSSLESS = 4096  # values of an image; a photo of 96x96 pixels would have 27 KB, a thousand of them 27 MB
_JPEG_QUALITY = 80  # a thumbnail of 200 pixels then has some 8 KB

# The page sets these, for light and dark; what a figure draws in black takes the text's colour.
_CSS_COLOURS = {
    BLUE: "var(--right)",
    VERMILLION: "var(--wrong)",
    GREY: "var(--muted)",
    "#000000": "currentColor",
    "#ffffff": "var(--card)",
    "#cccccc": "var(--line)",
    "#b0b0b0": "var(--muted)",
}


def render(template: str, **values: Any) -> str:
    """Renders a template: an HTML page, in which values are escaped, or Markdown; an undefined name is an error.

    Args:
      template: its file name.
      values: by name.
    """
    is_page = template.endswith(".html")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fmnist_jax.views"),
        autoescape=is_page,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not is_page,
    )
    environment.filters |= {"percent": percent, "decimals": decimals}
    return environment.get_template(template).render(**values)


def decimals(value: float) -> str:
    """A loss as text, a dash if it is not finite."""
    return f"{value:.4f}" if np.isfinite(value) else NO_NUMBER


def css_colour(colour: str) -> str:
    """The page's CSS colour for a figure's colour, such as `#0072B2`."""
    return _CSS_COLOURS.get(colour, colour)


def svg(figure: Figure) -> Markup:
    """Turns a figure into SVG that takes on the colours and typeface of the page around it."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fmnist_jax"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    drawing = re.sub(r"<metadata>.*?</metadata>", "", file.getvalue().partition("<svg")[2], flags=re.DOTALL)
    head, _, body = drawing.partition(">")
    # Without a size of its own, it is as wide as its container.
    drawing = re.sub(r' (?:width|height)="[^"]*"', "", head) + ">" + body
    for colour, theme in _CSS_COLOURS.items():
        drawing = drawing.replace(colour.lower(), theme)
    return Markup(f'<svg aria-hidden="true"{drawing}')


def png_uri(image: np.ndarray) -> str:
    """An image u8[H, W, C], of one or three channels, as a data URI that holds a PNG file."""
    return _uri(_picture(image), "png", optimize=True)


def jpeg_uri(image: np.ndarray) -> str:
    """The same as a JPEG file, which is smaller for photos, but lossy."""
    return _uri(_picture(image), "jpeg", optimize=True, quality=_JPEG_QUALITY)


def thumbnail_uri(image: np.ndarray, edge: int) -> str:
    """A data URI of an image whose longer edge has at most `edge` pixels: lossless, unless it is large."""
    if max(image.shape[:2]) <= edge and image.size <= _MAX_LOSSLESS:
        return png_uri(image)
    picture = _picture(image)
    picture.thumbnail((edge, edge), Image.Resampling.BOX)
    return _uri(picture, "jpeg", optimize=True, quality=_JPEG_QUALITY)


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _uri(picture: Image.Image, kind: str, **options: bool | int) -> str:
    file = io.BytesIO()
    picture.save(file, kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
