"""Checks of the arrays and names that a data set is made of."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from fmnist_jax.errors import DataError

_MIN_EDGE = 8  # pixels, the shortest edge that an image may have


def to_arrays(images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Converts images and labels to arrays, without copying those that are.

    Raises:
      DataError: they are ragged.
    """
    try:
        images, label_array = np.asanyarray(images), np.asanyarray(labels)
    except ValueError as error:
        raise DataError(
            f"images or labels do not form an array ({error}): expected images of one shape, and one integer per label"
        ) from error
    is_empty_list = not hasattr(labels, "dtype") and not label_array.size  # which NumPy makes an array of floats
    return images, label_array.astype(np.int32) if is_empty_list else label_array


def check_shapes(images: np.ndarray, labels: np.ndarray) -> None:
    """Checks that images are u8[N, H, W] or u8[N, H, W, C], and labels whole numbers [N].

    Raises:
      DataError: they are not, the images are too small, or C is neither 1 nor 3.
    """
    count = len(labels) if labels.ndim else len(images) if images.ndim else 0
    is_grey_or_colour = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    is_large_enough = min(images.shape[1:3], default=0) >= _MIN_EDGE
    if not (is_grey_or_colour and is_large_enough and len(images) == count and images.dtype == np.uint8):
        raise DataError(
            f"images are {images.dtype}{list(images.shape)}: expected uint8[{count}, H, W] or "
            f"uint8[{count}, H, W, C], with H and W at least {_MIN_EDGE} and C 1 or 3"
        )
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"labels are {labels.dtype}{list(labels.shape)}: expected whole numbers [{count}]")


def to_class_names(values: Iterable[object]) -> tuple[str, ...]:
    """Makes texts of class names, and checks that they can be stored and displayed, and differ.

    Raises:
      DataError: one is bytes or not Unicode, shows nothing or more than a line, or is repeated.
    """
    names = tuple(map(str, given := tuple(values)))
    if undecoded := [value for value in given if isinstance(value, bytes)]:
        raise DataError(f"the class name {undecoded[0]!r} is bytes: decode it, or use an array of text (dtype=str)")
    if invalid := [name for name in names if not _is_unicode(name)]:
        raise DataError(
            f"the class name {invalid[0]!r} is not valid Unicode: decode it with the encoding it was written in"
        )
    if invalid := [name for name in names if not name.strip() or not name.isprintable()]:
        raise DataError(f"the class name {invalid[0]!r} cannot be displayed: use printable characters on one line")
    if len(set(names)) < len(names):
        raise DataError(f"class names repeat {max(names, key=names.count)!r}: give each class a different name")
    return names


def _is_unicode(text: str) -> bool:
    """Whether a text can be encoded; file names may hold surrogates, which cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
