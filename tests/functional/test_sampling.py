"""The order of the examples: permutations by property, randomness by statistics with fixed seeds."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import Array

from fmnist_jax import batch_epochs, batch_indices

STEPS = 48

# For the statistical tests: examples per order, and number of orders.
N, SAMPLES = 23, 4600


compiled_indices = jax.jit(batch_indices, static_argnums=(2, 3))


@partial(jax.jit, static_argnums=(1, 2, 3))
def compiled_batches(key: Array, batch_size: int, n: int, steps: int) -> Array:
    return jax.vmap(lambda step: batch_indices(key, step, batch_size, n))(jnp.arange(steps))


def batches(key: Array, batch_size: int, n: int, steps: int = STEPS) -> np.ndarray:
    return np.asarray(compiled_batches(key, batch_size, n, steps))


@pytest.fixture(scope="module", params=["keys", "epochs"])
def orders(key: Array, request: pytest.FixtureRequest) -> np.ndarray:
    """Permutations of N examples: the first of many keys, or many of one key; i32[SAMPLES, N]."""
    if request.param == "epochs":
        return batches(key, N, N, SAMPLES)
    return np.asarray(jax.jit(jax.vmap(lambda key: batch_indices(key, 0, N, N)))(jax.random.split(key, SAMPLES)))


def chi_square_z(counts: np.ndarray, degrees: int) -> np.ndarray:
    """Standard deviations by which the chi-square statistic of each row exceeds that of a uniform draw."""
    expected = counts.mean(-1, keepdims=True)
    return (((counts - expected) ** 2 / expected).sum(-1) - degrees) / np.sqrt(2 * degrees)


# Two batch sizes and few examples, because each is compiled.
@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.sampled_from([5, 32]), st.data())
def test_every_epoch_is_a_permutation_regardless_of_batch_boundaries(
    seed: int, batch_size: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, STEPS * batch_size // 2), label="n")
    order = batches(jax.random.key(seed), batch_size, n).ravel()
    for start in range(0, len(order), n):
        epoch = order[start : start + n]
        assert 0 <= epoch.min() <= epoch.max() < n
        assert len(np.unique(epoch)) == len(epoch)


@pytest.mark.parametrize("n", [1, 2, 4, 5, 16, 17])
def test_epochs_of_small_datasets_are_permutations(key: Array, n: int) -> None:
    order = batches(key, 5, n).ravel()
    epochs = order[: len(order) // n * n].reshape(-1, n)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(n), (len(epochs), 1)))


def test_epoch_of_the_full_training_set_size_is_a_permutation(key: Array) -> None:
    np.testing.assert_array_equal(np.sort(compiled_indices(key, 3, 55_000, 55_000)), np.arange(55_000))


def test_order_does_not_depend_on_the_batch_size(key: Array) -> None:
    small, large = batches(key, 5, 37), batches(key, 32, 37)
    np.testing.assert_array_equal(small[:32].ravel(), large[:5].ravel())


def test_order_stays_consistent_up_to_the_last_step_that_fits_int32(key: Array) -> None:
    n, step = 60_000, (2**31 - 1) // 32 - 1
    indices = np.asarray(compiled_indices(key, step, 32, n))
    assert 0 <= indices.min() <= indices.max() < n
    following = step * 32 // 5 + 1
    overlap = slice(following * 5 - step * 32, following * 5 - step * 32 + 5)
    np.testing.assert_array_equal(compiled_indices(key, following, 5, n), indices[overlap])


def test_indices_of_any_step_agree_eager_jitted_and_vmapped(key: Array) -> None:
    expected = batches(key, 5, 37)
    for step in (STEPS - 1, 0, 7, 8):
        np.testing.assert_array_equal(batch_indices(key, step, 5, 37), expected[step])
        np.testing.assert_array_equal(compiled_indices(key, jnp.int32(step), 5, 37), expected[step])


def test_empty_dataset_is_rejected(key: Array) -> None:
    with pytest.raises(ValueError, match="n is 0: expected a data set with at least one example"):
        batch_indices(key, 0, 4, 0)


def test_indices_are_int32(key: Array) -> None:
    indices = batch_indices(key, 0, 5, 37)
    assert indices.shape == (5,)
    assert indices.dtype == jnp.int32


def test_orders_differ_between_epochs_and_between_keys(orders: np.ndarray) -> None:
    assert len(np.unique(orders, axis=0)) == SAMPLES


def test_every_example_is_equally_likely_at_every_position(orders: np.ndarray) -> None:
    counts = np.stack([np.bincount(orders[:, position], minlength=N) for position in range(N)])
    assert chi_square_z(counts, N - 1).max() < 4
    assert chi_square_z(counts.T, N - 1).max() < 4
    assert abs(chi_square_z(counts.reshape(1, -1), (N - 1) ** 2).item()) < 4


def test_all_pairs_of_examples_are_equally_likely_as_neighbours(orders: np.ndarray) -> None:
    for position in range(N - 1):
        counts = np.bincount(orders[:, position] * N + orders[:, position + 1], minlength=N * N).reshape(N, N)
        pairs = counts[~np.eye(N, dtype=bool)]
        assert abs(chi_square_z(pairs[None], len(pairs) - 1).item()) < 4


def test_orders_are_uncorrelated_with_their_shifts_other_epochs_and_other_keys(key: Array) -> None:
    n = 10_000
    first, second = batches(key, n, n, steps=2)
    other, _ = batches(jax.random.key(1), n, n, steps=2)
    neighbours = [(first[:-lag], first[lag:]) for lag in (1, 2, 100)]
    for left, right in [*neighbours, (first, np.arange(n)), (first, second), (first, other)]:
        assert abs(np.corrcoef(left, right)[0, 1]) < 4 / np.sqrt(n)


def test_each_example_occurs_once_in_each_of_the_batch_epochs() -> None:
    n, batch_size = 7, 3
    seen = [
        (int(e), int(i))
        for step in range(7)
        for e, i in zip(
            batch_epochs(step, batch_size, n), batch_indices(jax.random.key(0), step, batch_size, n), strict=True
        )
    ]
    assert sorted(seen) == [(epoch, index) for epoch in range(3) for index in range(n)]
    assert batch_epochs(2, batch_size, n).dtype == jnp.int32


def test_traced_number_of_examples_is_rejected(key: Array) -> None:
    with pytest.raises(ValueError, match=r"n is traced: expected a fixed number; .* jax\.random\.randint"):
        jax.jit(lambda n: batch_indices(key, 0, 4, n))(12)


@pytest.mark.parametrize("batch_size", [0, -3])
def test_batch_size_below_one_is_rejected(key: Array, batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}: expected 1 or more"):
        batch_indices(key, 0, batch_size, 9)


def test_order_of_a_seed_never_changes() -> None:
    """A run that is resumed by a later version goes on in the order that it began with."""
    assert batch_indices(jax.random.key(0), 3, 8, 23).tolist() == [0, 2, 22, 11, 15, 20, 16, 19]
