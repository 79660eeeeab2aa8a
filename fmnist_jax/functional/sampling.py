"""The order of the training images, as a pure function of the step number."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fmnist_jax.functional.keys import stream_key

# Four rounds make a Feistel network a strong pseudorandom permutation if the round function is random
# (Luby & Rackoff 1988); twice that makes up for a cheap one.
_ROUNDS = 8

# Folded into the key first, so that the order shares no stream with the steps, which fold in their number.
_ORDER_STREAM = 2**32 - 1


def batch_indices(key: Array, step: Array | int, batch_size: int, n: int) -> Array:
    """Gives the indices of the examples in one batch, without any state but the step number.

    Consecutive batches run through the epochs: each epoch is its own permutation of all `n` examples,
    and a batch that begins in one epoch may end in the next, so that no example is dropped. The cost does not
    depend on `n`: a keyed Feistel network with cycle walking (Black & Rogaway 2002) permutes each position
    on its own, where sorting 55,000 random numbers would take 27 ms a step on two CPU cores.

    Args:
      key: the root key of the order.
      step: which batch, counted from 0 over the whole run; `(step + 1) * batch_size` must fit in an int32.
      batch_size: B.
      n: number of examples, not traced.

    Returns:
      i32[B] in [0, n).

    Raises:
      ValueError: there are no examples, or their number is traced.

    Examples:
      >>> key = jax.random.key(0)
      >>> epoch = jnp.concatenate([fj.batch_indices(key, step, batch_size=4, n=12) for step in range(3)])
      >>> sorted(epoch.tolist()) == list(range(12))
      True
    """
    given: Any = n
    if isinstance(given, jax.core.Tracer):
        raise ValueError("n is traced: expected a fixed number; if it changes, draw indices with jax.random.randint")
    if n < 1:
        raise ValueError(f"n is {n}: expected a data set with at least one example")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected 1 or more")
    epoch, position = jnp.divmod(_positions(step, batch_size), n)
    order_key = stream_key(key, _ORDER_STREAM)
    keys = jax.vmap(lambda e: jax.random.bits(jax.random.fold_in(order_key, e), (_ROUNDS,), jnp.uint32))(epoch)
    return _permute(keys, position, n)


def batch_epochs(step: Array | int, batch_size: int, n: int) -> Array:
    """Gives the epoch, counted from 0, that each example of one batch belongs to.

    Args:
      step: as for `batch_indices`.
      batch_size: B.
      n: number of examples.

    Returns:
      i32[B].
    """
    return _positions(step, batch_size) // n


def _positions(step: Array | int, batch_size: int) -> Array:
    """Numbers the examples i32[B] of one batch from 0 over the whole run."""
    return jnp.asarray(step, jnp.int32) * batch_size + jnp.arange(batch_size, dtype=jnp.int32)


def _permute(keys: Array, position: Array, n: int) -> Array:
    """Maps each position i32[B] in [0, n) by the permutation that its round keys u32[B, rounds] define."""
    side = math.isqrt(n - 1) + 1  # the square root of n, rounded up

    def encrypt(position: Array) -> Array:
        left, right = position.astype(jnp.uint32) // side, position.astype(jnp.uint32) % side
        for r in range(_ROUNDS):
            left, right = right, (left + _murmur_finalizer(right ^ keys[:, r]) % side) % side
        return (left * side + right).astype(jnp.int32)

    # The network permutes side**2 >= n values; applied again to any that land outside, it permutes [0, n).
    return jax.lax.while_loop(
        lambda position: jnp.any(position >= n),
        lambda position: jnp.where(position >= n, encrypt(position), position),
        encrypt(position),
    )


def _murmur_finalizer(x: Array) -> Array:
    """The finaliser of MurmurHash3: each input bit changes each output bit with probability near one half."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
