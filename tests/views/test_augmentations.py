import jax
import numpy as np

from fmnist_jax.data import synthetic
from fmnist_jax.views.augmentations import augmentation_rows


def test_every_augmentation_row_changes_the_images_and_keeps_shape_and_dtype() -> None:
    images, labels = synthetic.draw(6, 0)
    rows = augmentation_rows(jax.random.key(1), images, labels)
    assert next(iter(rows)) == "original"
    np.testing.assert_array_equal(rows.pop("original"), images)
    assert len(rows) == 11
    for row in rows.values():
        assert row.shape == images.shape
        assert row.dtype == np.uint8
        assert np.any(row != images)
    odd, even = rows["alternating, odd epochs"], rows["alternating, even epochs"]
    assert all(np.array_equal(a, b[:, ::-1]) for a, b in zip(odd, even, strict=True))
