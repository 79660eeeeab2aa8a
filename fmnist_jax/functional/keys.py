"""Keys of threefry, whose draws are the same bits when they are mapped, and on any number of devices.

Those of JAX's `rbg` are not: draws that are mapped over such keys are all made from the first one, as the page of
`jax.random` tells.
"""

import jax
import jax.numpy as jnp
from jax import Array

IMPLEMENTATION = "threefry2x32"


def root_key(seed: int) -> Array:
    """The key that a run of this seed begins with, whatever `jax_default_prng_impl` is set to."""
    return jax.random.key(seed, impl=IMPLEMENTATION)


def stream(key: Array, number: int) -> Array:
    """The key of a stream whose draws are mapped over the keys that are folded into it.

    Args:
      key: of any implementation.
      number: of the stream.

    Returns:
      A key of threefry: of such a `key` what `jax.random.fold_in` gives, of another one a key that is drawn from it.
    """
    return of_threefry(jax.random.fold_in(key, number))


def of_threefry(key: Array) -> Array:
    """The key itself, if it is one of threefry, or else one that is drawn from it."""
    if str(jax.random.key_impl(key)) == IMPLEMENTATION:
        return key
    return jax.random.wrap_key_data(jax.random.bits(key, (2,), jnp.uint32), impl=IMPLEMENTATION)
