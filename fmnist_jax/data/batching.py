"""Batches of a data set on the host: shuffled for training, or each example once for evaluation."""

from collections.abc import Iterator
from functools import partial
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fmnist_jax.data.dataset import Dataset
from fmnist_jax.functional.labels import PADDING_LABEL
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.sampling import batch_indices


def batches(dataset: Dataset, key: Array, batch_size: int, start_step: int = 0) -> Iterator[Batch]:
    """Yields shuffled training batches endlessly, the same ones that `train_step.sample_batch` gathers.

    These are the batches of a training run before any augmentation; with `flip="alternating"`, a run also mirrors them
    while gathering (`sample_mirrored_batch`).

    Args:
      dataset: N examples.
      key: determines the order; pass `TrainState.key` for the order of a training run.
      batch_size: B.
      start_step: index of the first batch to yield; the ones before it are not computed.
    """
    indices_fn = jax.jit(partial(batch_indices, batch_size=batch_size, n=len(dataset)))
    # A copy, because `key` often belongs to a state that the caller's step donates.
    key_copy = jax.random.wrap_key_data(jnp.copy(jax.random.key_data(key)), impl=jax.random.key_impl(key))

    def batch(step: int) -> Batch:
        indices = np.asarray(indices_fn(key_copy, step))
        return Batch(dataset.images[indices], dataset.labels[indices])

    return map(batch, count(start_step))


def stacked_batches(dataset: Dataset, batch_size: int) -> Batch:
    """Stacks the batches that `padded_batches` yields: images u8[N, B, H, W, C] and labels i32[N, B].

    Raises:
      ValueError: the data set is empty.
    """
    if not len(dataset):
        raise ValueError("the data set is empty: expected at least one example to batch")
    return Batch(*map(np.stack, zip(*padded_batches(dataset, batch_size), strict=True)))


def padded_batches(dataset: Dataset, batch_size: int) -> Iterator[Batch]:
    """Yields every example once, in order; the last batch is padded with rows labelled `PADDING_LABEL`."""
    return map(
        Batch, padded_rows(dataset.images, batch_size), padded_rows(dataset.labels, batch_size, fill=PADDING_LABEL)
    )


def padded_rows(array: np.ndarray, batch_size: int, *, fill: int = 0) -> Iterator[np.ndarray]:
    """Yields the rows of an array [N, ...] as blocks [batch_size, ...], in order; the last is padded with `fill`.

    Raises:
      ValueError: `batch_size` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected at least 1")
    for start in range(0, len(array), batch_size):
        rows = array[start : start + batch_size]
        padding = ((0, batch_size - len(rows)), *((0, 0) for _ in array.shape[1:]))
        yield np.pad(rows, padding, constant_values=fill)
