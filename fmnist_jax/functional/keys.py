"""Threefry keys, whose draws are the same bits under `vmap` and on any number of devices.

Those of JAX's `rbg` are not: draws mapped over such keys are all made from the first one, as the documentation of
`jax.random` says.
"""

import jax
import jax.numpy as jnp
from jax import Array

KEY_IMPL = "threefry2x32"


def root_key(seed: int) -> Array:
    """The key that a run with this seed starts from, whatever `jax_default_prng_impl` is set to."""
    return jax.random.key(seed, impl=KEY_IMPL)


def stream_key(key: Array, number: int) -> Array:
    """The key of a random stream, from which `fold_in` derives the keys that draws are mapped over.

    Args:
      key: of any implementation.
      number: of the stream.

    Returns:
      A threefry key: `jax.random.fold_in(key, number)` if that is threefry, else one drawn from it.
    """
    return as_threefry(jax.random.fold_in(key, number))


def as_threefry(key: Array) -> Array:
    """The key itself if it is a threefry key, else a threefry key drawn from it."""
    if str(jax.random.key_impl(key)) == KEY_IMPL:
        return key
    return jax.random.wrap_key_data(jax.random.bits(key, (2,), jnp.uint32), impl=KEY_IMPL)
