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


def init_of_its_key(key: Array) -> tuple[Params, BatchStats]:
    return {"drawn": jax.random.normal(key, (5,)), "key": jax.random.key_data(key).astype(jnp.float32)}, {}


# A model is any pair of functions; of this one the parameters tell which key they were made from.
TRANSPARENT = Model(init_of_its_key, make_model(ModelConfig()).apply)


def state_of(key: Array) -> TrainState:
    return init_state(TRANSPARENT, ADAMW, key)


def comparable(leaf: Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


def test_a_state_holds_arrays_only_and_starts_at_step_zero(key: Array) -> None:
    state = state_of(key)
    leaves = jax.tree.leaves(state)
    assert all(isinstance(leaf, Array) for leaf in leaves)
    assert (state.step.shape, int(state.step)) == ((), 0)
    assert state.step.dtype == jnp.int32
    # A weakly typed leaf would change its type in the first step, and compile everything twice.
    assert not any(getattr(leaf, "weak_type", False) for leaf in leaves)


def test_abstract_state_matches_the_initial_state(key: Array) -> None:
    abstract = abstract_state(TRANSPARENT, ADAMW)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(abstract))
    described, expected = (
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (abstract, state_of(key))
    )
    assert described == expected


def test_abstract_state_covers_the_whole_network(model: Model, variables: tuple[Params, BatchStats]) -> None:
    abstract = abstract_state(model, ADAMW)
    described, expected = (
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
        for tree in ((abstract.params, abstract.batch_stats), variables)
    )
    assert described == expected


def test_neither_the_root_key_nor_that_of_the_weights_is_the_given_key(key: Array) -> None:
    state = state_of(key)
    root, given, of_weights = comparable(state.key), comparable(key), np.asarray(state.params["key"])
    assert not np.array_equal(root, given)
    assert not np.array_equal(of_weights, given.astype(np.float32))
    assert not np.array_equal(of_weights, root.astype(np.float32))


def test_the_same_key_gives_the_same_state_bit_for_bit(key: Array) -> None:
    for first, again in zip(jax.tree.leaves(state_of(key)), jax.tree.leaves(state_of(key)), strict=True):
        np.testing.assert_array_equal(comparable(first), comparable(again))


def test_states_mapped_over_keys_equal_one_call_per_key() -> None:
    keys = jax.random.split(jax.random.key(7), 3)
    many = jax.jit(jax.vmap(state_of))(keys)
    for i in range(3):
        for stack, leaf in zip(jax.tree.leaves(many), jax.tree.leaves(state_of(keys[i])), strict=True):
            np.testing.assert_allclose(comparable(stack)[i], comparable(leaf), rtol=1e-6)
    assert len(np.unique(comparable(many.key), axis=0)) == 3
    assert len(np.unique(np.asarray(many.params["drawn"]), axis=0)) == 3


def test_param_count_counts_every_trainable_number(variables: tuple[Params, BatchStats]) -> None:
    # Kernels of 1 to 4, 4 to 6 and 6 to 6 channels, two numbers per normalised channel, the head on 7 x 7 x 6.
    expected = 9 * (4 + 24 + 36) + 2 * (4 + 6 + 6) + 7 * 7 * 6 * 10 + 10
    assert param_count(variables[0]) == expected


@pytest.mark.parametrize("name", ["prodigy", "dog", "dowg"])
def test_an_optimizer_that_keeps_the_parameters_may_be_given_the_memory_of_the_state(name: str, batch: Batch) -> None:
    model, optimizer = make_model(ModelConfig(family="plain", widths=(4,), depths=(1,))), getattr(optax.contrib, name)()
    step = jax.jit(make_train_step(model, optimizer), donate_argnums=0)
    state, _ = step(init_state(model, optimizer, jax.random.key(0)), batch)
    assert int(state.step) == 1
