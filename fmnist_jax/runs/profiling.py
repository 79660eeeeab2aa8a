"""A trace of training steps by JAX's profiler, for XProf, TensorBoard or Perfetto to open."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import jax
import jax.numpy as jnp

from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.state import TrainState
from fmnist_jax.functional.train_step import TrainChunk
from fmnist_jax.runs import processes
from fmnist_jax.system import output


def trace(chunk: TrainChunk, state: TrainState, data: Batch, step_counts: Iterable[int], directory: Path) -> None:
    """Writes a trace of training steps, taken on a copy of the state, and prints where it is.

    Args:
      chunk: what `make_train_chunk` returns, compiled; one step warms it up.
      state: the state that the steps start from, left unchanged.
      data: the whole training set.
      step_counts: how many steps to take in each call of `chunk`.
      directory: where to write; the profiler makes a folder there, named by the time.
    """
    # The chunk's state is donated to it, and training has yet to start from this one.
    state_copy = jax.tree.map(jnp.copy, state)
    state_copy, _ = jax.block_until_ready(chunk(state_copy, data, jnp.int32(1)))
    # Of several processes only the first writes, as everywhere, because the others may have no such directory.
    tracing = jax.profiler.trace(str(directory)) if processes.is_first() else nullcontext()
    with tracing:
        for steps in step_counts:
            state_copy, _ = chunk(state_copy, data, jnp.int32(steps))
        jax.block_until_ready(state_copy)
    output.say(f"traced training steps; view them with: xprof --logdir {directory}")


def chunk_sizes(total: int, max_size: int) -> Iterator[int]:
    """Divides `total` into parts of at most `max_size`."""
    yield from [max_size] * (total // max_size)
    if total % max_size:
        yield total % max_size
