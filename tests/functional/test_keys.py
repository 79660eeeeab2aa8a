"""Random keys of implementations other than JAX's default."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax import batch_indices, mirror_alternately
from fmnist_jax.functional import augment, sampling
from fmnist_jax.functional.keys import root_key, stream_key

OTHER_IMPLEMENTATIONS = ["rbg", "unsafe_rbg"]
N, BATCH = 60, 16


def test_stream_key_of_threefry_equals_fold_in() -> None:
    key = jax.random.key(3, impl="threefry2x32")
    np.testing.assert_array_equal(
        jax.random.key_data(stream_key(key, 5)), jax.random.key_data(jax.random.fold_in(key, 5))
    )


@pytest.mark.parametrize("implementation", OTHER_IMPLEMENTATIONS)
def test_stream_keys_of_other_implementations_are_distinct_threefry_keys(implementation: str) -> None:
    streams = [stream_key(jax.random.key(seed, impl=implementation), number) for seed in (0, 1) for number in (2, 3)]
    assert {str(jax.random.key_impl(stream)) for stream in streams} == {"threefry2x32"}
    assert len({jax.random.key_data(stream).tobytes() for stream in streams}) == 4


def test_root_key_is_threefry_whatever_the_default_implementation() -> None:
    with jax.default_prng_impl("rbg"):
        key = root_key(7)
    np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(jax.random.key(7, impl="threefry2x32")))


def test_streams_of_order_and_mirroring_are_distinct_and_above_every_step() -> None:
    assert augment._MIRROR_STREAM != sampling._ORDER_STREAM
    assert min(augment._MIRROR_STREAM, sampling._ORDER_STREAM) > 2**31 - 1


@pytest.mark.parametrize("implementation", OTHER_IMPLEMENTATIONS)
def test_epochs_are_distinct_permutations_that_do_not_depend_on_batch_size(implementation: str) -> None:
    key = jax.random.key(0, impl=implementation)
    indices = jax.jit(batch_indices, static_argnums=(2, 3))
    order = jnp.concatenate([indices(key, step, BATCH, N) for step in range(8)])[: 2 * N].reshape(2, N)
    np.testing.assert_array_equal(jnp.sort(order, axis=1), np.tile(np.arange(N), (2, 1)))
    assert (order[0] != order[1]).any()
    np.testing.assert_array_equal(order.ravel(), indices(key, 0, 2 * N, N))


@pytest.mark.parametrize("implementation", OTHER_IMPLEMENTATIONS)
def test_alternating_mirror_flips_every_other_epoch_whatever_the_batch_position(implementation: str) -> None:
    key, indices = jax.random.key(0, impl=implementation), jnp.arange(N, dtype=jnp.int32)
    images = jnp.tile(jnp.array([1, 2], jnp.uint8), (N, 1)).reshape(N, 1, 2, 1)

    def mirrored(indices: jax.Array, epoch: int) -> jax.Array:
        return mirror_alternately(key, images, indices, jnp.full(N, epoch, jnp.int32))[:, 0, 0, 0] == 2

    first = mirrored(indices, 0)
    assert 0 < first.sum() < N
    np.testing.assert_array_equal(mirrored(indices, 1), ~first)
    np.testing.assert_array_equal(mirrored(indices[::-1], 2), first[::-1])
