"""Any sequence of cut points, each with a checkpoint written and read back, ends in the same bits."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist_jax import checkpoint
from fmnist_jax.augment import make_augment
from fmnist_jax.config import ModelConfig, OptimConfig
from fmnist_jax.model import make_model
from fmnist_jax.optim import make_optimizer, make_schedule
from fmnist_jax.state import TrainState, init_state
from fmnist_jax.synthetic import draw
from fmnist_jax.train_step import Batch, make_train_chunk, make_train_step

_STEPS = 12
_BATCH_SIZE = 8


@pytest.fixture(scope="module")
def start() -> TrainState:
    return init_state(_MODEL, _OPTIMIZER, jax.random.key(5))


@pytest.fixture(scope="module")
def advance() -> Callable[[TrainState, int], TrainState]:
    """Takes some steps, on 30 images, so that batches reach across the ends of epochs."""
    step = make_train_step(_MODEL, _OPTIMIZER, augment=make_augment(flip=True, crop_padding=2))
    chunk = jax.jit(make_train_chunk(step, _BATCH_SIZE, _STEPS))
    images, labels = draw(30, 0)
    train = Batch(jnp.asarray(images), jnp.asarray(labels))
    return lambda state, steps: chunk(state, train, jnp.int32(steps))[0]


_MODEL = make_model(ModelConfig(widths=(4, 4), depths=(1, 1), dropout=0.3))
_OPTIMIZER = make_optimizer(OptimConfig(), make_schedule(OptimConfig(), _STEPS))


@given(st.sets(st.integers(1, _STEPS - 1), max_size=4))
@settings(max_examples=15)
def test_any_cuts_end_in_the_same_bits(
    start: TrainState, advance: Callable[[TrainState, int], TrainState], cuts: set[int]
) -> None:
    whole = checkpoint.state_digest(advance(start, _STEPS))
    state, step = start, 0
    with tempfile.TemporaryDirectory() as folder:
        for cut in sorted(cuts):
            with checkpoint.writing(Path(folder) / "checkpoints") as manager:
                checkpoint.save(manager, advance(state, cut - step))
            state, step = checkpoint.restore(Path(folder) / "checkpoints", cut, like=start), cut
        assert checkpoint.state_digest(advance(state, _STEPS - step)) == whole


def test_the_digest_would_notice_a_step_more_or_another_key(
    start: TrainState, advance: Callable[[TrainState, int], TrainState]
) -> None:
    states = [
        advance(start, _STEPS - 1),
        advance(start, _STEPS),
        advance(replace(start, key=jax.random.key(6)), _STEPS),
    ]
    kernels = [np.asarray(state.params["Conv_0"]["kernel"]) for state in states]
    assert len({checkpoint.state_digest(state) for state in states}) == 3
    assert not np.array_equal(kernels[1], kernels[2])
