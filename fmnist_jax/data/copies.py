"""Test images that are also training images: on those, accuracy measures memorisation."""

import numpy as np

from fmnist_jax.functional.pixels import fingerprint


def count_shared(images: np.ndarray, others: np.ndarray) -> int:
    """Counts the images u8[N, ...] that equal one of `others` u8[M, ...], of the same shape, byte for byte.

    They are compared by fingerprint, so that no second copy of `others` is kept.
    """
    known = set(map(fingerprint, others))
    return sum(fingerprint(image) in known for image in images)
