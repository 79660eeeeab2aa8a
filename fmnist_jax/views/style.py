"""The look that all figures share: colours distinct to colour-blind readers and in grey print, and plain axes."""

import functools
import io
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

# Okabe & Ito's colours, chosen to be told apart by colour-blind readers (jfly.uni-koeln.de/color).
BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#6B6B6B"

CLASS_COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000"),
    *("#882255", "#99DD00", "#004422"),
)
"""A colour for each of ten classes: Okabe and Ito's except for yellow, and three that are as distinct."""
CLASS_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")

_MAX_BLACK_LEVEL = 64  # of 255: the edges of images of garments and digits are 0, and somewhat more in averages of many

NO_NUMBER = "–"  # noqa: RUF001  # stands for one that there is not

SHARE_COLOURMAP = "Blues"
"""Colour map for shares, most of which are near zero, on paper."""
SEQUENTIAL = "cividis"
"""Colour map for values from zero to a maximum; equally readable in grey."""
DIVERGING = "PuOr"
"""Colour map for values of both signs."""


# Fonts of scripts that matplotlib's own font, or the user's, has no letters of; those that are installed are tried.
_OTHER_FONTS = (
    *("Noto Sans CJK JP", "Hiragino Sans", "Yu Gothic", "Microsoft YaHei", "SimHei", "WenQuanYi Zen Hei"),
    *("Malgun Gothic", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Arabic", "Noto Sans Hebrew"),
    "Arial Unicode MS",
)


class _NotebookFigure(Figure):
    """A figure that a notebook shows when it is the last expression of a cell, without pyplot.

    Its text is drawn in any script that an installed font has; letters of others become boxes, with no warning of each.
    """

    def draw(self, renderer: RendererBase) -> None:
        """Draws everything."""
        for text in self.findobj(lambda artist: isinstance(artist, Text) and not artist.get_text().isascii()):
            assert isinstance(text, Text)
            text.set_fontfamily([*dict.fromkeys([*text.get_fontfamily(), *_other_fonts()])])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from (current )?font", UserWarning)
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


@functools.cache
def _other_fonts() -> list[str]:
    """Those of `_OTHER_FONTS` that are installed."""
    installed = set(font_manager.get_font_names())
    return [name for name in _OTHER_FONTS if name in installed]


def new_figure(width: float, height: float, padding: float = 0.04) -> Figure:
    """Makes a figure, sized in inches, that keeps its parts from overlapping, and `padding` apart."""
    layout = ConstrainedLayoutEngine(w_pad=padding, h_pad=padding)
    return _NotebookFigure(figsize=(width, height), layout=layout, facecolor="white")


def truncate(text: str, letters: int) -> str:
    """Cuts a text that is longer than `letters`, and marks where."""
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def truncate_middle(text: str, letters: int) -> str:
    """Cuts a text that is longer than `letters` in the middle, for names that differ at their ends."""
    first = (letters - 1) // 2
    return text if len(text) <= letters else f"{text[:first]}…{text[first + 1 - letters :]}"


def wrap_two_lines(text: str, letters: int) -> str:
    """Breaks a text that is longer than `letters` into two lines, and cuts what does not fit."""
    first, *rest = textwrap.wrap(text, letters) or [text]
    return "\n".join([first, truncate(" ".join(rest), letters)] if rest else [first])


def draw_panels(
    panels: Mapping[str, Callable[[Axes, Any], None]], data: Any, width: float, height: float
) -> dict[str, Figure]:
    """Draws the same data in several ways, a figure each, by name.

    Args:
      panels: functions that draw onto axes, by name.
      data: what each of them draws.
      width: of a figure, in inches.
      height: of a figure, in inches.
    """
    figures = {name: new_figure(width, height) for name in panels}
    for name, draw in panels.items():
        draw(figures[name].subplots(), data)
    return figures


def percent(value: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as text, a dash if there is none; 100 % only if it is all."""
    if value is None or np.isnan(value):
        return NO_NUMBER
    almost_all = 1 - 10 ** -(digits + 2)
    return f"{min(value, almost_all) if value < 1 else value:.{digits}%}"


def describe_axes(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Labels what a plot shows and in what units, and removes what says nothing."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def escape_mathtext(text: str) -> str:
    """User-supplied text, such as a class name, for matplotlib: dollar signs in it start no mathematics."""
    return text.replace("$", r"\$")


def show_image(axes: Axes, image: np.ndarray) -> None:
    """Draws an image without axes, as `for_imshow` gives it: [H, W] or [H, W, 3] in [0, 255]."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    hide_ticks(axes)


def for_imshow(images: np.ndarray, like: Sequence[np.ndarray] | None = None) -> np.ndarray:
    """Converts images [N, H, W, C] in [0, 255] for `imshow`: colour ones to u8[N, H, W, 3], grey ones to [N, H, W].

    Grey ones on a black background, such as garments and digits, are drawn dark on light; others are photographs, which
    that would turn into negatives.

    Args:
      images: any number of them.
      like: arrays of images from the same data set, whose background decides this; without them, `images` decide.
    """
    if has_colour(images):
        return np.rint(images).astype(np.uint8)
    grey = images.reshape(images.shape[:3])
    return 255 - grey if has_black_background(*(like or [images])) else grey


def has_colour(images: np.ndarray) -> bool:
    """Whether images are [N, H, W, 3]."""
    return images.ndim == 4 and images.shape[-1] == 3


def has_black_background(*images: np.ndarray) -> bool:
    """Whether images [N, H, W] or [N, H, W, 1] in [0, 255] have a black background, by the median along their edges."""
    edges = [edge for each in images for edge in (each[:, 0], each[:, -1], each[:, :, 0], each[:, :, -1])]
    return bool(np.median(np.concatenate([edge.ravel() for edge in edges])) < _MAX_BLACK_LEVEL)


def hide_ticks(axes: Axes) -> None:
    """Removes ticks and frame from axes that show a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
