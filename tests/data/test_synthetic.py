import hashlib

import numpy as np
import pytest

from fmnist_jax.data import synthetic
from fmnist_jax.data.dataset import Dataset
from fmnist_jax.functional.labels import CLASS_NAMES

SIZES = [0, 1, 7, 10, 23]
SEEDS = [0, 1, 2**32 - 1]


def digest(size: int, seed: int) -> str:
    images, labels = synthetic.draw(size, seed)
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()


def test_digest_of_seed_0_is_unchanged() -> None:
    assert digest(23, 0) == "a4198d44cd3287bfa0ad54d4786009a2f3c4479a564d40d89700b94d194287c1"


@pytest.mark.parametrize("seed", SEEDS)
def test_draw_is_deterministic(seed: int) -> None:
    assert digest(23, seed) == digest(23, seed)


def test_draw_does_not_change_numpys_global_random_state() -> None:
    before = np.random.get_state(legacy=False)["state"]
    synthetic.draw(7, 3)
    after = np.random.get_state(legacy=False)["state"]
    assert (before["pos"], before["key"].tobytes()) == (after["pos"], after["key"].tobytes())


def test_different_seeds_draw_different_images_and_label_orders() -> None:
    draws = [synthetic.draw(50, seed) for seed in SEEDS]
    for index, (images, labels) in enumerate(draws):
        for other_images, other_labels in draws[:index]:
            assert not np.array_equal(labels, other_labels)
            hashes = {image.tobytes() for image in images}
            assert not hashes & {image.tobytes() for image in other_images}


@pytest.mark.parametrize("size", SIZES)
def test_draw_of_any_size_has_the_shape_and_dtype_of_a_dataset(size: int) -> None:
    images, labels = synthetic.draw(size, 5)
    assert (images.shape, images.dtype) == ((size, 28, 28, 1), np.dtype(np.uint8))
    assert (labels.shape, labels.dtype) == ((size,), np.dtype(np.int32))
    assert len(Dataset(images, labels)) == size


@pytest.mark.parametrize("size", SIZES)
def test_classes_are_as_balanced_as_the_size_allows(size: int) -> None:
    counts = np.bincount(synthetic.draw(size, 5)[1], minlength=len(CLASS_NAMES))
    assert counts.shape == (10,)
    assert counts.sum() == size
    assert np.ptp(counts) <= 1


def test_labels_are_in_random_order() -> None:
    labels = synthetic.draw(200, 0)[1]
    assert 0.02 < (labels[1:] == labels[:-1]).mean() < 0.25


def test_every_image_shows_a_garment_on_an_empty_background() -> None:
    images, _ = synthetic.draw(500, 1)
    lit = (images > 25).mean((1, 2, 3))
    assert np.min(lit) > 0.05
    assert np.max(lit) < 0.8
    assert np.min(images.std((1, 2, 3))) > 10
    assert (images == 0).mean() > 0.4


def test_images_are_all_different() -> None:
    images, _ = synthetic.draw(500, 1)
    assert len({image.tobytes() for image in images}) == 500


def test_nearest_mean_image_classifies_between_40_and_99_percent() -> None:
    (images, labels), (test_images, test_labels) = synthetic.draw(1_000, 0), synthetic.draw(1_000, 1)
    means = np.stack([images[labels == label].mean(0).ravel() for label in range(10)])
    distances = np.square(test_images.reshape(1_000, 1, -1) - means).sum(-1)
    assert 0.4 < (distances.argmin(1) == test_labels).mean() < 0.99
