"""Batches on the host: equal to those on the device in training, each example once in evaluation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.config.schema import ModelConfig, OptimConfig
from fmnist_jax.data import batching, synthetic
from fmnist_jax.data.dataset import Dataset
from fmnist_jax.functional.augment import random_flip
from fmnist_jax.functional.model import make_model
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.optim import make_optimizer, make_schedule
from fmnist_jax.functional.state import init_state
from fmnist_jax.functional.train_step import make_train_chunk, make_train_step, sample_batch


def draw_dataset(size: int, seed: int = 0) -> Dataset:
    return Dataset(*synthetic.draw(size, seed))


@pytest.mark.parametrize(
    ("size", "batch_size", "start"), [(23, 4, 0), (23, 4, 5), (23, 4, 1_000_003), (24, 4, 1), (5, 8, 3), (1, 1, 0)]
)
def test_host_batches_equal_device_batches_bit_for_bit(size: int, batch_size: int, start: int) -> None:
    examples, key = draw_dataset(size), jax.random.key(7)
    on_device = jax.device_put(Batch(examples.images, examples.labels))
    gather = jax.jit(sample_batch, static_argnums=3)
    for step, batch in enumerate(itertools.islice(batching.batches(examples, key, batch_size, start), 7), start):
        assert isinstance(batch.images, np.ndarray)
        assert isinstance(batch.labels, np.ndarray)
        assert [array.dtype for array in batch] == [np.dtype(np.uint8), np.dtype(np.int32)]
        expected = gather(on_device, key, step, batch_size)
        np.testing.assert_array_equal(batch.images, expected.images)
        np.testing.assert_array_equal(batch.labels, expected.labels)


def test_training_on_host_and_on_device_batches_gives_the_same_state() -> None:
    steps, batch_size, examples = 50, 16, draw_dataset(97)
    model = make_model(ModelConfig(family="plain", widths=(4,), depths=(1,), dropout=0.1))
    config = OptimConfig(peak_lr=0.05)
    optimizer = make_optimizer(config, make_schedule(config, steps))
    step = make_train_step(model, optimizer, augment=random_flip)
    start = jax.jit(lambda key: init_state(model, optimizer, key))(jax.random.key(0))
    device_data = jax.device_put(Batch(examples.images, examples.labels))
    on_device, _ = jax.jit(make_train_chunk(step, batch_size, steps))(start, device_data, jnp.int32(steps))
    on_host, compiled = start, jax.jit(step)
    for batch in itertools.islice(batching.batches(examples, start.key, batch_size), steps):
        on_host, _ = compiled(on_host, batch)
    assert int(on_host.step) == int(on_device.step) == steps
    changes = jax.tree.map(lambda old, new: float(jnp.abs(new - old).max()), start.params, on_host.params)
    assert min(jax.tree.leaves(changes)) > 1e-3
    for name in ("params", "batch_stats", "opt_state"):
        for left, right in zip(*(jax.tree.leaves(getattr(s, name)) for s in (on_host, on_device)), strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "batch_size"), [(1, 4), (8, 4), (9, 4), (3, 1)])
def test_stacked_batches_equal_padded_batches(size: int, batch_size: int) -> None:
    actual, expected = (
        batching.stacked_batches(draw_dataset(size), batch_size),
        batching.padded_batches(draw_dataset(size), batch_size),
    )
    assert actual.images.dtype == np.uint8
    for number, batch in enumerate(expected):
        np.testing.assert_array_equal(actual.images[number], batch.images)
        np.testing.assert_array_equal(actual.labels[number], batch.labels)
    assert len(actual.images) == len(actual.labels) == -(-size // batch_size)


def test_stacked_batches_reject_an_empty_dataset() -> None:
    with pytest.raises(ValueError, match="is empty: expected at least one example"):
        batching.stacked_batches(draw_dataset(0), 4)


@pytest.mark.parametrize(("size", "batch_size"), [(0, 4), (1, 4), (8, 4), (9, 4), (3, 1), (4, 100)])
def test_padded_batches_contain_every_example_once_and_mark_the_padding(size: int, batch_size: int) -> None:
    examples = draw_dataset(size)
    batches = list(batching.padded_batches(examples, batch_size))
    assert len(batches) == -(-size // batch_size)
    assert {batch.images.shape for batch in batches} <= {(batch_size, 28, 28, 1)}
    images = np.concatenate([examples.images[:0], *(batch.images for batch in batches)])
    labels = np.concatenate([examples.labels[:0], *(batch.labels for batch in batches)])
    assert [array.dtype for array in (images, labels)] == [np.dtype(np.uint8), np.dtype(np.int32)]
    np.testing.assert_array_equal(images[:size], examples.images)
    np.testing.assert_array_equal(labels[:size], examples.labels)
    assert (labels[size:] == -1).all()
    assert not images[size:].any()


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_of_no_images_are_refused(batch_size: int) -> None:
    for make in (batching.stacked_batches, lambda *given: list(batching.padded_batches(*given))):
        with pytest.raises(ValueError, match=f"batch_size is {batch_size}: expected at least 1"):
            make(draw_dataset(3), batch_size)
