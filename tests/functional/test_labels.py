import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from fmnist_jax import CLASS_NAMES, class_names, make_cross_entropy, one_hot, smoothed, soft_labels


def test_ten_class_names_follow_the_order_of_the_dataset() -> None:
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 10
    assert CLASS_NAMES[0] == "T-shirt/top"
    assert CLASS_NAMES[5:8] == ("Sandal", "Shirt", "Sneaker")
    assert CLASS_NAMES[9] == "Ankle boot"


def test_one_hot_equals_identity_rows_and_zeros_out_of_range() -> None:
    labels = jnp.array([[0, 9], [3, -1], [10, 3]])
    expected = np.vstack([np.eye(10), np.zeros((1, 10))])[[[0, 9], [3, 10], [10, 3]]]
    actual = one_hot(labels)
    assert actual.dtype == jnp.float32
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(one_hot(labels, 4), expected[..., :4])


@given(st.floats(0, 1))
def test_smoothed_labels_equal_their_definition_and_sum_to_one(amount: float) -> None:
    actual = np.asarray(smoothed(jnp.array([2, 0]), amount, 4))
    expected = np.full((2, 4), amount / 4)
    expected[[0, 1], [2, 0]] = 1 - amount + amount / 4
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(actual.sum(-1), 1, rtol=1e-6)


def test_smoothed_labels_are_the_targets_of_the_smoothed_cross_entropy() -> None:
    logits, labels = jax.random.normal(jax.random.key(0), (6, 10)), jnp.array([0, 1, 2, 3, 8, 9])
    expected = -(smoothed(labels, 0.2) * jax.nn.log_softmax(logits)).sum(-1)
    np.testing.assert_allclose(make_cross_entropy(0.2)(logits, labels), expected, rtol=1e-6)


def test_class_names_accepts_lists_arrays_and_empty_lists() -> None:
    assert class_names([9, 0, 9]) == ["Ankle boot", "T-shirt/top", "Ankle boot"]
    assert class_names(jnp.array([5])) == ["Sandal"]
    assert class_names([1, 0], names=("no", "yes")) == ["yes", "no"]
    assert class_names([]) == []


@pytest.mark.parametrize("label", [-1, -10, 10])
def test_class_names_rejects_out_of_range_labels(label: int) -> None:
    with pytest.raises(IndexError):
        class_names([0, label])


def test_soft_labels_one_hot_encodes_integers_and_returns_weights_unchanged() -> None:
    labels, soft = jnp.array([3, -1]), jnp.array([[0.25, 0.75], [1.0, 0.0]])
    np.testing.assert_array_equal(soft_labels(labels), one_hot(labels))
    np.testing.assert_array_equal(soft_labels(labels, 4), one_hot(labels, 4))
    assert soft_labels(soft, 2) is soft


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.int8])
def test_soft_labels_of_out_of_range_labels_are_nan(dtype: jnp.dtype) -> None:
    actual = soft_labels(jnp.array([1, 2, 100], dtype), 2)
    np.testing.assert_array_equal(actual, [[0, 1], [np.nan] * 2, [np.nan] * 2])


def test_smoothed_soft_labels_equal_the_weighted_mean_of_smoothed_classes() -> None:
    actual = smoothed(jnp.array([[0.25, 0.75, 0, 0]]), 0.2, 4)
    expected = 0.25 * smoothed(jnp.array([0]), 0.2, 4) + 0.75 * smoothed(jnp.array([1]), 0.2, 4)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
