"""A trace of training steps by JAX's profiler, for XProf, TensorBoard or Perfetto to open."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.state import TrainState
from fmnist_jax.functional.train_step import TrainChunk
from fmnist_jax.system import output


def trace(chunk: TrainChunk, state: TrainState, data: Batch, parts: Iterable[int], directory: Path) -> None:
    """Writes a trace of training steps, taken on a copy of the state, which is left as it is, and says where.

    Args:
      chunk: what `make_train_chunk` returns, compiled; one step warms it up.
      state: where the steps begin.
      data: the whole training set.
      parts: how many steps to take in each call of `chunk`.
      directory: where to; the profiler makes a folder with the time in it there.
    """
    # The chunk is given its state to overwrite, and training has yet to begin from this one.
    own = jax.tree.map(jnp.copy, state)
    own, _ = jax.block_until_ready(chunk(own, data, jnp.int32(1)))
    with jax.profiler.trace(str(directory)):
        for steps in parts:
            own, _ = chunk(own, data, jnp.int32(steps))
        jax.block_until_ready(own)
    output.say(f"traced training steps; look at them with: xprof --logdir {directory}")


def parts(total: int, most: int) -> Iterator[int]:
    """Divides a number into parts of at most another."""
    yield from [most] * (total // most)
    if total % most:
        yield total % most
