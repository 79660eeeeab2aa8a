"""Test images that are training images: a data set that has them measures memory."""

import numpy as np

from fmnist_jax.functional.pixels import fingerprint


def count_shared(images: np.ndarray, others: np.ndarray) -> int:
    """Counts the images u8[N, ...] that are equal in every byte to one of others u8[M, ...] of the same shape.

    They are compared by their fingerprints, so that the others need not be kept twice.
    """
    known = set(map(fingerprint, others))
    return sum(fingerprint(image) in known for image in images)
