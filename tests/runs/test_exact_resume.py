"""Training that is cut anywhere, with a checkpoint written and read back at each cut, ends bitwise equal."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fmnist_jax.config.schema import AugmentConfig, Config, DataConfig, ModelConfig, TrainConfig
from fmnist_jax.data.synthetic import draw
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.recipe import make_recipe
from fmnist_jax.functional.state import TrainState
from fmnist_jax.functional.train_step import make_train_chunk
from fmnist_jax.runs import checkpoint
from fmnist_jax.runs.leaves import state_digest

_STEPS = 12
_BATCH_SIZE = 8
_IMAGES = 30  # so that batches span epoch boundaries
# With everything that draws random numbers or carries state from step to step.
_RECIPE = make_recipe(
    Config(
        data=DataConfig(name="synthetic", synthetic_train_size=_IMAGES, validation_size=0),
        model=ModelConfig(family="resnet", widths=(4,), depths=(1,), dropout=0.3, stochastic_depth=0.3),
        augment=AugmentConfig(rotation=10.0, erase_probability=0.5, cutout=4, cutmix_alpha=1.0),
        train=TrainConfig(epochs=3, batch_size=_BATCH_SIZE, average_decay=0.9),
    )
)


@pytest.fixture(scope="module")
def initial_state() -> TrainState:
    return jax.jit(_RECIPE.init)(jax.random.key(5))


@pytest.fixture(scope="module")
def advance() -> Callable[[TrainState, int], TrainState]:
    chunk = jax.jit(make_train_chunk(_RECIPE.step, _BATCH_SIZE, _STEPS, sample=_RECIPE.sample))
    images, labels = draw(_IMAGES, 0)
    train = Batch(jnp.asarray(images), jnp.asarray(labels))
    return lambda state, steps: chunk(state, train, jnp.int32(steps))[0]


@pytest.mark.slow
@given(st.sets(st.integers(1, _STEPS - 1), max_size=4))
@settings(max_examples=6)
def test_run_resumed_at_any_steps_is_bitwise_equal_to_an_uninterrupted_one(
    initial_state: TrainState, advance: Callable[[TrainState, int], TrainState], cuts: set[int]
) -> None:
    expected_digest = state_digest(advance(initial_state, _STEPS))
    state, step = initial_state, 0
    with tempfile.TemporaryDirectory() as folder:
        for cut in sorted(cuts):
            with checkpoint.writing(Path(folder) / "checkpoints") as writer:
                writer.save(advance(state, cut - step))
            state, step = checkpoint.restore(Path(folder) / "checkpoints", cut, like=initial_state), cut
        assert state_digest(advance(state, _STEPS - step)) == expected_digest


def test_state_digest_differs_after_another_step_or_with_another_key(
    initial_state: TrainState, advance: Callable[[TrainState, int], TrainState]
) -> None:
    states = [
        advance(initial_state, _STEPS - 1),
        advance(initial_state, _STEPS),
        advance(replace(initial_state, key=jax.random.key(6)), _STEPS),
    ]
    assert len({state_digest(state) for state in states}) == 3
    for weights in ("params", "averages"):
        kernels = [np.asarray(jax.tree.leaves(getattr(state, weights))[0]) for state in states]
        assert not np.array_equal(kernels[1], kernels[2])
