import numpy as np
from hypothesis import given, strategies as st

from fmnist_jax.analysis.census import (
    Copies,
    class_averages,
    content_ids,
    copies_across,
    copies_within,
    find_copies,
    summarize_split,
)


def images_of(values: list[int]) -> np.ndarray:
    """Images that are equal if and only if their values are."""
    rng = np.random.default_rng(0)
    distinct = rng.integers(0, 256, (max(values, default=0) + 1, 3, 2, 1), dtype=np.uint8)
    distinct[:, 0, 0, 0] = np.arange(len(distinct))
    return distinct[values]


def test_summary_matches_numpy() -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(3, 201, (50, 28, 28, 1), dtype=np.uint8)
    labels = rng.integers(0, 4, 50).astype(np.int32)
    summary = summarize_split(images, labels, 5)
    assert summary is not None
    assert (summary.size, summary.shape, summary.dtype) == (50, (28, 28, 1), "uint8")
    assert [summary.lowest, summary.highest] == [np.min(images), np.max(images)]
    np.testing.assert_allclose(summary.mean, images.mean(dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(summary.std, images.std(dtype=np.float64), rtol=1e-9)
    assert summary.class_counts == tuple(np.sum(labels == label) for label in range(5))


def test_summary_of_one_constant_image_has_zero_std() -> None:
    summary = summarize_split(np.full((1, 28, 28, 1), 200, np.uint8), np.array([2], np.int32), 3)
    assert summary is not None
    assert (summary.lowest, summary.highest, summary.mean, summary.std) == (200, 200, 200.0, 0.0)
    assert summary.class_counts == (0, 0, 1)


def test_summary_of_an_empty_split_is_none() -> None:
    assert summarize_split(np.zeros((0, 28, 28, 1), np.uint8), np.zeros(0, np.int32), 10) is None


def test_class_averages_match_numpy_and_are_black_without_images() -> None:
    rng = np.random.default_rng(2)
    images, labels = rng.integers(0, 256, (30, 4, 5, 1), dtype=np.uint8), rng.integers(0, 3, 30)
    averages = class_averages(images, labels, 4)
    for label in range(3):
        np.testing.assert_allclose(averages[label], np.mean([*images[labels == label].astype(float)], axis=0))
    assert averages.shape == (4, 4, 5, 1)
    assert not averages[3].any()


def test_copies_and_conflicting_labels_are_counted() -> None:
    #                   a  b  a  c  b  b  d
    ids = np.array([0, 1, 0, 2, 1, 1, 3])
    labels = np.array([5, 6, 5, 7, 6, 8, 9])
    assert copies_within(ids, labels) == Copies(images=5, pictures=2, conflicting=1)
    other_ids, other_labels = np.array([2, 2, 0, 9]), np.array([7, 7, 4, 1])
    assert copies_across(ids, labels, other_ids, other_labels) == Copies(images=3, pictures=2, conflicting=1)
    assert copies_across(other_ids, other_labels, ids, labels) == Copies(images=3, pictures=2, conflicting=1)


def test_splits_without_copies_count_zero() -> None:
    none = Copies(0, 0, 0)
    assert copies_within(np.arange(4), np.zeros(4, int)) == none
    assert copies_within(np.zeros(0, int), np.zeros(0, int)) == none
    assert copies_across(np.arange(4), np.zeros(4, int), np.zeros(0, int), np.zeros(0, int)) == none


VALUES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=12)


@given(VALUES, VALUES)
def test_find_copies_matches_comparing_every_pair(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    pool = images_of(list(range(6)))
    splits = {
        name: (pool[[value for value, _ in pairs]], np.array([label for _, label in pairs], np.int32))
        for name, pairs in (("train", first), ("test", second))
    }
    actual = find_copies(splits)
    assert list(actual) == ["train", "test", "test in train"]

    def expected(pairs: list[tuple[int, int]], others: list[tuple[int, int]], min_count: int) -> Copies:
        copied = [value for value, _ in pairs if sum(value == other for other, _ in others) >= min_count]
        labels = {value: {label for other, label in [*pairs, *others] if other == value} for value in copied}
        return Copies(len(copied), len(labels), sum(len(values) > 1 for values in labels.values()))

    assert actual["train"] == expected(first, first, 2)
    assert actual["test"] == expected(second, second, 2)
    assert actual["test in train"] == expected(second, first, 1)


def test_content_ids_differ_if_one_byte_differs() -> None:
    images = images_of([0, 0, 1])
    images[1, 2, 1, 0] ^= 1
    first, second = content_ids([images, images[::-1]])
    assert len(set(first)) == 3
    assert second.tolist() == first[::-1].tolist()
