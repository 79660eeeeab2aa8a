"""Images that are in both of two sets, against counts by hand."""

import numpy as np

from fmnist_jax.data.copies import count_shared


def test_images_are_shared_only_if_every_byte_is_equal() -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)
    images[0, 7, 7, 2] = 1
    images[1, 0, 0, 0] = 1
    others = np.ascontiguousarray(images[:2, ::-1])
    assert count_shared(images, others) == 0
    assert count_shared(images, images[2:3]) == 2
    assert count_shared(images, np.asfortranarray(images)) == 4
    assert count_shared(images, images[:0]) == count_shared(images[:0], images) == 0
