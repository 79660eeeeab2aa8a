"""Users' own pictures on one HTML page: each with what the network saw of it, its prediction, and its doubts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fmnist_jax.analysis.classification import most_probable
from fmnist_jax.views import pages


class Card(NamedTuple):
    """A picture."""

    name: str
    thumbnail: np.ndarray
    """u8[h, w, 3]."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom of the object as shares of the picture's width and height."""
    image: np.ndarray
    """u8[H, W, C], what the network saw."""
    probabilities: np.ndarray
    """f[number of classes]."""
    doubts: Sequence[str]
    """Why its classes are unsure; empty if they are not."""


class Contents(NamedTuple):
    """What the page shows."""

    run: str
    """Name of the run."""
    step: int
    """Step of the weights."""
    class_names: Sequence[str]
    cards: Sequence[Card]
    """The pictures that are shown, in the order in which they were named."""
    picture_count: int
    """How many there are, shown or not."""
    unsure_count: int
    """How many of them are unsure."""
    skipped: Sequence[tuple[str, str]]
    """Names of what could not be predicted, and why."""


def render(contents: Contents) -> str:
    """Renders a page that needs no other file and no network."""
    names = contents.class_names
    return pages.render(
        "photos.html",
        page=contents,
        cards=[_card_to_dict(card, names) for card in contents.cards],
        classes=[names[label] for label in sorted({int(card.probabilities.argmax()) for card in contents.cards})],
    )


def _card_to_dict(card: Card, names: Sequence[str]) -> dict[str, object]:
    """A card as the template takes it, its images as data URIs."""
    top = most_probable(card.probabilities)
    left, top_edge, right, bottom = card.box
    return {
        "name": card.name,
        "picture": pages.jpeg_uri(card.thumbnail),
        "size": card.thumbnail.shape[1::-1],
        "box": (left, top_edge, right - left, bottom - top_edge),
        "seen": pages.png_uri(card.image),
        "seen_size": card.image.shape[1::-1],
        "top": [(names[label], float(card.probabilities[label])) for label in top],
        "doubts": card.doubts,
    }
