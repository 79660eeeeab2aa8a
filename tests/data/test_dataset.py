"""Data sets: loading, splitting, digests and statistics, against NumPy."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fmnist_jax.config.schema import DataConfig
from fmnist_jax.data import dataset, synthetic
from fmnist_jax.data.dataset import Dataset, Splits, evenly_spaced
from fmnist_jax.errors import ConfigError, DataError


def draw_dataset(size: int, seed: int = 0) -> Dataset:
    return Dataset(*synthetic.draw(size, seed))


def numbered_dataset(labels: list[int]) -> Dataset:
    """Images whose first pixels hold their numbers."""
    images = np.zeros((len(labels), 28, 28, 1), np.uint8)
    images[:, 0, :4, 0] = np.arange(len(labels), dtype=np.uint32).view(np.uint8).reshape(-1, 4)
    return Dataset(images, np.array(labels, np.int32))


def image_numbers(examples: Dataset) -> list[int]:
    return np.ascontiguousarray(examples.images[:, 0, :4, 0]).view(np.uint32).ravel().tolist()


IMAGES, LABELS = np.zeros((3, 28, 28, 1), np.uint8), np.array([0, 9, 5], np.int32)


@pytest.mark.parametrize(
    ("images", "labels", "fragments"),
    [
        (IMAGES[0, ..., 0], LABELS, ["uint8[28, 28]", "expected uint8[3, H, W]"]),
        (IMAGES[:2], LABELS, ["uint8[2, 28, 28, 1]", "expected uint8[3, H, W]"]),
        (IMAGES[:, :7], LABELS, ["uint8[3, 7, 28, 1]", "H and W at least 8"]),
        (np.repeat(IMAGES, 2, -1), LABELS, ["uint8[3, 28, 28, 2]", "C 1 or 3"]),
        (IMAGES.astype(np.float32), LABELS, ["float32[3, 28, 28, 1]", "expected uint8"]),
        (IMAGES, LABELS.astype(np.float32), ["float32[3]", "expected whole numbers [3]"]),
        (IMAGES, LABELS[:, None], ["int32[3, 1]", "expected whole numbers [3]"]),
        (IMAGES, np.array(1), ["int64[]", "expected whole numbers [3]"]),
        (np.array(1, np.uint8), LABELS, ["uint8[]", "expected uint8[3, H, W]"]),
        (np.array(1, np.uint8), np.array(1), ["uint8[]", "expected uint8[0, H, W]"]),
        (IMAGES, np.array([0, 10, 5], np.int32), ["10", "0..9"]),
        (IMAGES, np.array([0, -1, 5], np.int32), ["-1", "0..9"]),
    ],
)
def test_dataset_rejects_invalid_arrays(images: np.ndarray, labels: np.ndarray, fragments: list[str]) -> None:
    with pytest.raises(DataError) as exc_info:
        Dataset(images, labels)
    assert all(fragment in str(exc_info.value) for fragment in fragments)
    assert len(str(exc_info.value).splitlines()) == 1


def test_dataset_accepts_the_outermost_labels_and_zero_examples() -> None:
    assert len(Dataset(IMAGES, LABELS)) == 3
    assert len(Dataset(IMAGES[:0], LABELS[:0])) == 0


def test_labels_are_limited_by_the_number_of_class_names() -> None:
    assert len(Dataset(IMAGES, np.array([0, 1, 1], np.int32), ("cat", "dog"))) == 3
    with pytest.raises(DataError, match=r"0\.\.1"):
        Dataset(IMAGES, np.array([0, 1, 2], np.int32), ("cat", "dog"))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.uint64, np.int32])
@pytest.mark.parametrize("channels", [1, 3])
def test_dataset_accepts_any_integer_labels_and_exposes_shape_and_classes(dtype: type, channels: int) -> None:
    images = np.zeros((3, 8, 11, channels), np.uint8)
    examples = Dataset(images, LABELS.astype(dtype), [f"class {number}" for number in range(12)])  # type: ignore[arg-type]
    assert (examples.image_shape, examples.num_classes, examples.labels.dtype.name) == ((8, 11, channels), 12, "int32")
    assert isinstance(examples.class_names, tuple)
    assert examples.images is images


def test_grey_images_gain_a_channel_axis_without_a_copy() -> None:
    examples = Dataset(IMAGES[..., 0], LABELS)
    assert examples.images.shape == (3, 28, 28, 1)
    assert np.shares_memory(examples.images, IMAGES)


def test_class_name_that_is_not_valid_unicode_is_rejected() -> None:
    with pytest.raises(DataError, match=r"the class name 'caf\\udce9' is not valid Unicode"):
        Dataset(IMAGES, np.zeros(len(IMAGES), np.int32), ("caf\udce9", "b"))


@pytest.mark.parametrize(("count", "limit", "expected"), [(10, 3, [0, 3, 6]), (3, 24, [0, 1, 2]), (0, 5, [])])
def test_evenly_spaced_chooses_at_most_limit_examples(count: int, limit: int, expected: list[int]) -> None:
    assert evenly_spaced(count, limit).tolist() == expected


def test_repeated_class_names_are_rejected() -> None:
    with pytest.raises(DataError, match=r"class names repeat 'a': give each class a different name"):
        Dataset(IMAGES[:0], LABELS[:0], ("a", "b", "a"))


def test_npz_file_is_loaded_split_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 9, 3), dtype=np.uint8)
    labels = np.arange(20) % 2 * 3  # the classes in between have no images
    names = np.array(["a", "b", "c", "d"])
    arrays: dict[str, Any] = {
        "train_images": images,
        "train_labels": labels,
        "test_images": images[5:8],
        "test_labels": labels[5:8],
    }
    np.savez(tmp_path / "a.npz", **arrays, class_names=names)
    config = DataConfig(name="npz", file=tmp_path / "a.npz", validation_size=4)
    splits = dataset.load(config)
    assert [len(part) for part in splits] == [16, 4, 3]
    assert splits.validation.labels.tolist().count(3) == 2
    assert splits.train.class_names == ("a", "b", "c", "d")
    assert capsys.readouterr().err.startswith("warning: 3 of the 3 test images of")
    with pytest.raises(ConfigError, match=r"validation-size is 20, which leaves none of 20 images for training"):
        dataset.load(replace(config, validation_size=20))
    np.savez(tmp_path / "a.npz", **{**arrays, "test_labels": labels[:2]})
    with pytest.raises(DataError, match=r"a\.npz: test data: images are uint8\[3, 8, 9, 3\]: expected uint8\[2, H"):
        dataset.load(config)
    np.savez(tmp_path / "a.npz", **{**arrays, "class_names": np.array(["a", "b", "c", "a"])})
    with pytest.raises(DataError, match=r"a\.npz: training data: class names repeat 'a': give each class"):
        dataset.load(config)


def test_take_keeps_images_with_their_labels() -> None:
    taken = numbered_dataset([3, 1, 4, 1, 5]).take(np.array([4, 0, 0]))
    assert image_numbers(taken) == [4, 0, 0]
    assert taken.labels.tolist() == [5, 3, 3]


@settings(deadline=None, max_examples=30)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_split_is_disjoint_complete_balanced_and_in_order(data: st.DataObject, seed: int) -> None:
    per_class = data.draw(st.lists(st.integers(3, 8), min_size=10, max_size=10))
    size = data.draw(st.integers(0, 10 * (min(per_class) - 1)))
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(10), per_class)).tolist()
    examples = numbered_dataset(labels)
    train, validation = dataset.split(examples, size, seed)
    assert sorted(image_numbers(train) + image_numbers(validation)) == list(range(len(examples)))
    for part in (train, validation):
        assert image_numbers(part) == sorted(image_numbers(part))
        assert part.labels.tolist() == [labels[number] for number in image_numbers(part)]
    counts = np.bincount(validation.labels, minlength=10).tolist()
    assert counts == [size // 10 + (label < size % 10) for label in range(10)]


def test_split_is_determined_by_the_seed() -> None:
    examples = numbered_dataset([0, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 20)
    validation_numbers = [image_numbers(dataset.split(examples, 50, seed)[1]) for seed in (0, 0, 1)]
    assert validation_numbers[0] == validation_numbers[1]
    assert validation_numbers[0] != validation_numbers[2]


def test_split_rejects_leaving_a_class_without_training_images() -> None:
    examples = numbered_dataset([*range(10), *range(10), 0])
    assert np.bincount(dataset.split(examples, 10, 0)[0].labels).tolist() == [2, *[1] * 9]
    with pytest.raises(DataError, match=r"-size 12 takes 2 images of class 1, which has 2, and leaves"):
        dataset.split(examples, 12, 0)


@pytest.mark.parametrize(("labels", "size"), [([0, 1], -1), ([], 5)])
def test_split_rejects_a_negative_size_and_an_empty_data_set(labels: list[int], size: int) -> None:
    with pytest.raises(DataError, match=rf"-size is {size}, of {len(labels)} images: choose 0, or fewer"):
        dataset.split(numbered_dataset(labels), size, 0)


def test_data_sets_are_compared_and_hashed_by_identity() -> None:
    examples = numbered_dataset([0, 1])
    assert examples in {examples}
    assert examples != numbered_dataset([0, 1])


def test_synthetic_splits_have_the_configured_sizes_and_share_no_image() -> None:
    config = DataConfig(name="synthetic", synthetic_train_size=60, synthetic_test_size=60, validation_size=20, seed=3)
    splits = dataset.load(config)
    assert [len(part) for part in splits] == [40, 20, 60]
    assert len({image.tobytes() for part in splits for image in part.images}) == 120
    assert dataset.digest(splits) == dataset.digest(dataset.load(config))
    assert dataset.digest(splits) != dataset.digest(dataset.load(replace(config, seed=4)))


def test_digest_is_sha256_of_images_and_labels_in_order() -> None:
    splits = Splits(draw_dataset(3), draw_dataset(2, 1), draw_dataset(1, 2))
    content = b"".join(part.images.tobytes() + part.labels.tobytes() for part in splits)
    assert dataset.digest(splits) == hashlib.sha256(content).hexdigest()


def test_statistics_match_numpy() -> None:
    examples = draw_dataset(57)
    actual = dataset.statistics(examples)
    assert actual.mean == pytest.approx((examples.images / 255).mean(), rel=1e-12)
    assert actual.std == pytest.approx((examples.images / 255).std(), rel=1e-12)
    assert actual.class_counts.tolist() == np.bincount(examples.labels, minlength=10).tolist()


def test_statistics_count_empty_classes_and_are_nan_without_images() -> None:
    assert dataset.statistics(Dataset(IMAGES, LABELS)).class_counts.tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    mean, std, counts = dataset.statistics(draw_dataset(57).take(np.array([], np.int64)))
    assert np.isnan([mean, std]).all()
    assert counts.tolist() == [0] * 10


def test_dataset_accepts_jax_arrays_and_lists_and_keeps_memory_maps(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 9, 1), np.uint8)
    examples = Dataset(jnp.asarray(images), [2, 0, 1])  # type: ignore[arg-type]
    assert isinstance(examples.images, np.ndarray)
    np.testing.assert_array_equal(examples.images, images)
    np.testing.assert_array_equal(examples.labels, np.array([2, 0, 1], np.int32), strict=True)
    assert len(Dataset(images[:0], [])) == 0  # type: ignore[arg-type]
    with pytest.raises(DataError, match="images or labels do not form an array"):
        Dataset([images[0], images[1, :4]], [0, 1])  # type: ignore[arg-type]
    np.save(tmp_path / "images.npy", images)
    assert isinstance(Dataset(np.load(tmp_path / "images.npy", mmap_mode="r"), np.arange(3)).images, np.memmap)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1b[31m"])
def test_blank_or_unprintable_class_name_is_rejected(name: str) -> None:
    with pytest.raises(DataError, match="cannot be displayed: use printable characters on one line"):
        Dataset(np.zeros((1, 8, 8), np.uint8), np.zeros(1, np.int32), ("coat", name))


def test_split_of_a_seed_never_changes() -> None:
    """Runs in progress and recorded validation scores depend on it."""
    examples = numbered_dataset([0] * 10)
    assert [image_numbers(dataset.split(examples, 3, seed)[1]) for seed in (0, 1)] == [[2, 4, 8], [2, 6, 9]]
