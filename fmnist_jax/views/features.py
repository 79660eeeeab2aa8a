"""Figures of what a network has learnt: pure functions from arrays to a matplotlib `Figure`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from fmnist_jax.analysis.inspection import Projection
from fmnist_jax.views.style import (
    CLASS_COLOURS,
    CLASS_MARKERS,
    DIVERGING,
    SEQUENTIAL,
    describe_axes,
    escape_mathtext,
    for_imshow,
    hide_ticks,
    new_figure,
    show_image,
    truncate,
    wrap_two_lines,
)

_FILTER_COLUMNS = 8
_MAX_KERNELS = 64
_MAX_LAYERS = 8
_MAX_CHANNELS = 10  # of a layer, the most active
_MAX_NAMED_CLASSES = 20  # classes that can be named among their points
_MAX_LETTERS = 24  # of a name, to which longer ones would leave no room
_MAX_LEGEND_ROWS = 40
_MAX_LEGEND_COLUMNS = 4


def filters(kernels: np.ndarray) -> Figure:
    """Draws kernels of the first convolution on one scale, at most 64 of them.

    Args:
      kernels: f[F, K, K]; or f[F, K, K, 3] for colour images, drawn as colours in which grey is 0.
    """
    shown = kernels[:_MAX_KERNELS]
    rows = -(-len(shown) // _FILTER_COLUMNS)
    figure = new_figure(8.2, 0.95 * rows + 0.8)
    axes_grid = figure.subplots(rows, _FILTER_COLUMNS, squeeze=False)
    limit = np.abs(kernels).max()
    for number, (axes, kernel) in enumerate(zip(axes_grid.ravel(), shown, strict=False)):
        colours = kernel if kernel.ndim == 2 else 0.5 + kernel / (2 * (limit or 1))
        image = axes.imshow(colours, cmap=DIVERGING, vmin=-limit, vmax=limit)
        axes.set_title(f"{number}", fontsize=8, pad=2)
        hide_ticks(axes)
    for axes in axes_grid.ravel()[len(shown) :]:
        axes.set_axis_off()
    if kernels.ndim == 3:
        figure.colorbar(image, ax=axes_grid, label="weight", shrink=0.9)
    count = f"{len(kernels)}" if len(shown) == len(kernels) else f"{len(shown)} of {len(kernels)}"
    figure.suptitle(f"{count} kernels of the first convolution, {kernels.shape[1]}x{kernels.shape[2]} pixels")
    return figure


def activation_maps(
    image: np.ndarray, layers: Sequence[np.ndarray], name: str, *, like: np.ndarray | None = None
) -> Figure:
    """Draws the most active channels of layers for one image, one row per layer, at most 8 evenly spaced layers.

    Args:
      image: u8[H, W, C].
      layers: f[H, W, C] each, first layer first.
      name: of the image, for the title.
      like: u8[N, H, W, C]: images of its data set, as `for_imshow` takes them.
    """
    chosen = np.unique(np.linspace(0, len(layers) - 1, min(_MAX_LAYERS, len(layers))).round().astype(int))
    figure = new_figure(10.2, 0.98 * len(chosen) + 0.7)
    axes_grid = figure.subplots(len(chosen), _MAX_CHANNELS + 1, squeeze=False)
    for axes in axes_grid.ravel():
        hide_ticks(axes)
    show_image(axes_grid[0, 0], for_imshow(image[None], None if like is None else [like])[0])
    for row, number in zip(axes_grid, chosen, strict=True):
        layer = layers[number]
        height, width, channels = layer.shape
        most_active = np.argsort(-layer.mean((0, 1)), kind="stable")[:_MAX_CHANNELS]
        label = f"layer {number + 1}\n{height}x{width}\n{channels} channels"
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        for axes, channel in zip(row[1:], most_active, strict=False):
            shown = axes.imshow(layer[..., channel], cmap=SEQUENTIAL, vmin=min(0, layer.min()), vmax=layer.max())
            axes.set_title(f"{channel}", fontsize=7, pad=2)
        figure.colorbar(shown, ax=row, shrink=0.85, aspect=8, pad=0.01).ax.tick_params(labelsize=7)
    figure.suptitle(escape_mathtext(f"{name}: the most active channels of each layer, by number; one scale per layer"))
    return figure


def embedding_map(projection: Projection, labels: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws images as points in the plane in which their features vary most, with a colour and a marker per class.

    Args:
      projection: of the features of N images.
      labels: i[N].
      class_names: by label.
    """
    figure = new_figure(8.4, 6.4)
    axes = figure.subplots()
    outlined = [withStroke(linewidth=3, foreground="white")]
    text_style: dict[str, Any] = {"ha": "center", "va": "center", "weight": "bold", "path_effects": outlined}
    for label in np.unique(labels):
        points = projection.points[labels == label]
        colour, marker = CLASS_COLOURS[label % 10], CLASS_MARKERS[(label + label // 10) % 10]
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=14,
            c=colour,
            marker=marker,
            alpha=0.55,
            linewidths=0,
        )
    present = np.unique(labels)
    if len(present) <= _MAX_NAMED_CLASSES:
        for label, (x, y) in _label_positions(projection.points, labels).items():
            axes.text(x, y, escape_mathtext(truncate(class_names[label], _MAX_LETTERS)), **text_style)
    # Points that all coincide have no variance to share.
    first, second = (f" ({share:.0%} of the variance)" if np.isfinite(share) else "" for share in projection.shares)
    describe_axes(
        axes,
        f"Features of the last hidden layer, {len(labels):,} images",
        x=f"first principal component{first}",
        y=f"second principal component{second}",
    )
    size = "medium" if len(present) <= _MAX_NAMED_CLASSES else "xx-small"
    columns = -(-len(present) // _MAX_LEGEND_ROWS)
    if columns > _MAX_LEGEND_COLUMNS:  # which would leave no room for the points
        return figure
    figure.legend(
        axes.collections,  # named here, because matplotlib skips those whose own label begins with an underscore
        [escape_mathtext(truncate(class_names[label], _MAX_LETTERS)) for label in present],
        loc="outside right upper",
        markerscale=1.8,
        frameon=False,
        fontsize=size,
        ncols=columns,
    )
    return figure


def _label_positions(points: np.ndarray, labels: np.ndarray) -> dict[int, tuple[float, float]]:
    """Finds a place for the name of each class: the middle of its points, moved up until it covers no other name."""
    width, height = np.ptp(points, axis=0) * (0.2, 0.04)
    places: dict[int, tuple[float, float]] = {}
    middles = {int(label): np.median(points[labels == label], axis=0) for label in np.unique(labels)}
    for label, (x, y) in sorted(middles.items(), key=lambda item: item[1][1]):
        while height and any(abs(x - other) < width and abs(y - over) < height for other, over in places.values()):
            y += height / 4  # noqa: PLW2901
        places[label] = (float(x), float(y))
    return places


def saliency_maps(
    images: np.ndarray, saliency: np.ndarray, names: Sequence[str], *, like: np.ndarray | None = None
) -> Figure:
    """Draws images, and below each how strongly its highest logit depends on each pixel.

    Args:
      images: u8[N, H, W, C], N >= 1.
      saliency: f[N, H, W].
      names: of the N images.
      like: u8[M, H, W, C]: images of their data set, as `for_imshow` takes them.
    """
    figure = new_figure(0.9 + 1.15 * len(images), 2.85)
    axes_grid = figure.subplots(2, len(images), squeeze=False)
    shown_images = for_imshow(images, None if like is None else [like])
    for above, below, image, values, name in zip(*axes_grid, shown_images, saliency, names, strict=True):
        show_image(above, image)
        above.set_title(escape_mathtext(wrap_two_lines(name, 17)), fontsize=8.5)
        shown = below.imshow(values / (values.max() or 1), cmap=SEQUENTIAL, vmin=0, vmax=1)
        hide_ticks(below)
    figure.colorbar(shown, ax=axes_grid, shrink=0.8, pad=0.01, label="share of the largest gradient")
    figure.suptitle("How strongly the highest logit depends on each pixel", fontsize=11)
    return figure
