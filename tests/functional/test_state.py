import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from jax import Array

from fmnist_jax import (
    Batch,
    Model,
    ModelConfig,
    OptimConfig,
    abstract_state,
    init_state,
    make_model,
    make_optimizer,
    make_train_step,
    param_count,
)
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.functional.state import TrainState

ADAMW = make_optimizer(OptimConfig(name="adamw", clip_norm=1.0), optax.linear_schedule(0.1, 0.0, 10))


def init_recording_key(key: Array) -> tuple[Params, BatchStats]:
    return {"drawn": jax.random.normal(key, (5,)), "key": jax.random.key_data(key).astype(jnp.float32)}, {}


# A model is any pair of functions; the parameters of this one record the key they were made from.
KEY_RECORDER = Model(init_recording_key, make_model(ModelConfig()).apply)


def make_state(key: Array) -> TrainState:
    return init_state(KEY_RECORDER, ADAMW, key)


def to_numpy(leaf: Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


def test_state_holds_only_strongly_typed_arrays_and_starts_at_step_zero(key: Array) -> None:
    state = make_state(key)
    leaves = jax.tree.leaves(state)
    assert all(isinstance(leaf, Array) for leaf in leaves)
    assert (state.step.shape, int(state.step)) == ((), 0)
    assert state.step.dtype == jnp.int32
    # A weakly typed leaf would change its type in the first step, so everything would be compiled twice.
    assert not any(getattr(leaf, "weak_type", False) for leaf in leaves)


def test_abstract_state_matches_the_initial_state(key: Array) -> None:
    abstract = abstract_state(KEY_RECORDER, ADAMW)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(abstract))
    described, expected = (
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (abstract, make_state(key))
    )
    assert described == expected


def test_abstract_state_matches_the_variables_of_the_network(
    model: Model, variables: tuple[Params, BatchStats]
) -> None:
    abstract = abstract_state(model, ADAMW)
    described, expected = (
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
        for tree in ((abstract.params, abstract.batch_stats), variables)
    )
    assert described == expected


def test_root_key_weight_key_and_given_key_are_all_different(key: Array) -> None:
    state = make_state(key)
    root_key_data, given, weight_key = to_numpy(state.key), to_numpy(key), np.asarray(state.params["key"])
    assert not np.array_equal(root_key_data, given)
    assert not np.array_equal(weight_key, given.astype(np.float32))
    assert not np.array_equal(weight_key, root_key_data.astype(np.float32))


def test_same_key_gives_a_bit_identical_state(key: Array) -> None:
    for first, again in zip(jax.tree.leaves(make_state(key)), jax.tree.leaves(make_state(key)), strict=True):
        np.testing.assert_array_equal(to_numpy(first), to_numpy(again))


def test_vmapped_init_state_equals_one_call_per_key() -> None:
    keys = jax.random.split(jax.random.key(7), 3)
    mapped = jax.jit(jax.vmap(make_state))(keys)
    for i in range(3):
        for stack, leaf in zip(jax.tree.leaves(mapped), jax.tree.leaves(make_state(keys[i])), strict=True):
            np.testing.assert_allclose(to_numpy(stack)[i], to_numpy(leaf), rtol=1e-6)
    assert len(np.unique(to_numpy(mapped.key), axis=0)) == 3
    assert len(np.unique(np.asarray(mapped.params["drawn"]), axis=0)) == 3


def test_param_count_counts_every_trainable_value(variables: tuple[Params, BatchStats]) -> None:
    # Kernels of 1 to 4, 4 to 6 and 6 to 6 channels, two numbers per normalised channel, the head on 7 x 7 x 6.
    expected = 9 * (4 + 24 + 36) + 2 * (4 + 6 + 6) + 7 * 7 * 6 * 10 + 10
    assert param_count(variables[0]) == expected


@pytest.mark.parametrize("name", ["prodigy", "dog", "dowg"])
def test_state_can_be_donated_when_the_optimizer_keeps_the_parameters(name: str, batch: Batch) -> None:
    model, optimizer = make_model(ModelConfig(family="plain", widths=(4,), depths=(1,))), getattr(optax.contrib, name)()
    step = jax.jit(make_train_step(model, optimizer), donate_argnums=0)
    state, _ = step(init_state(model, optimizer, jax.random.key(0)), batch)
    assert int(state.step) == 1
