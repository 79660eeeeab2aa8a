"""What pages of HTML share: their templates, and images that stand in the page itself."""

import base64
import io

import jinja2
import numpy as np
from PIL import Image

_QUALITY = 80  # of JPEG, at which a thumbnail of 200 pixels has some 8 KB


def template(name: str) -> jinja2.Template:
    """A template of this room, in which `percent` writes shares."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fmnist_jax.views"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    return environment.get_template(name)


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}%}"  # noqa: RUF001


def png_uri(image: np.ndarray) -> str:
    """An image u8[H, W, C], of one channel or three, as the address of a PNG file that needs no other file."""
    return _uri(image, "png", optimize=True)


def jpeg_uri(image: np.ndarray) -> str:
    """The same as a JPEG file, which is smaller for photos and not exact."""
    return _uri(image, "jpeg", optimize=True, quality=_QUALITY)


def _uri(image: np.ndarray, kind: str, **options: bool | int) -> str:
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
