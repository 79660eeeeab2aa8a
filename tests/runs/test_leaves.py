"""Pytrees as named arrays: snapshots, leaf names, PRNG keys, and rebuilding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

from fmnist_jax.errors import CheckpointError
from fmnist_jax.runs.leaves import Snapshot, first_nonfinite, named_leaves, rebuild, snapshot, state_digest


def test_snapshot_copies_leaves_by_name_and_records_key_implementations() -> None:
    array = np.arange(3.0)
    saved = snapshot({"a": {"b": array}, "keys": (jax.random.key(1), jax.random.key(2, impl="rbg"))})
    array[0] = 9
    assert list(saved.leaves) == ["a.b", "keys.0", "keys.1"]
    np.testing.assert_array_equal(saved.leaves["a.b"], [0, 1, 2])
    assert saved.keys == {"keys.0": "threefry2x32", "keys.1": "rbg"}
    assert saved.leaves["keys.1"].shape == (4,)


def test_leaf_names_stay_distinct_when_they_contain_dots() -> None:
    names = list(named_leaves({"a.b": 1, "a": {"b": 2}})[0])
    assert len(set(names)) == 2


def test_rebuild_assumes_the_default_implementation_of_unrecorded_keys() -> None:
    key = jax.random.key(5)
    saved = Snapshot(snapshot({"key": key}).leaves, {})
    assert jnp.array_equal(jax.random.bits(rebuild(saved, {"key": key})["key"]), jax.random.bits(key))


def test_rebuild_rejects_a_key_of_another_implementation() -> None:
    saved = snapshot({"key": jax.random.key(5, impl="rbg")})
    with pytest.raises(ValueError, match=r"key is key<rbg>\[\], where key<fry>\[\] is expected"):
        rebuild(saved, {"key": jax.random.key(5)})


@pytest.mark.parametrize("change", [np.nextafter(np.float32(1), np.float32(2)), 2.0, np.nan])
def test_state_digest_depends_on_values_names_and_dtypes(change: float) -> None:
    digests = {state_digest({"w": jnp.ones(2).at[1].set(value)}) for value in (1.0, change)}
    digests |= {state_digest({"v": jnp.ones(2)}), state_digest({"w": jnp.ones(2, jnp.bfloat16)})}
    assert len(digests) == 4


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
def test_first_nonfinite_returns_the_name_of_the_leaf_or_none(dtype: Any) -> None:
    sharding = NamedSharding(jax.make_mesh((2,), ("data",)), P("data"))
    values = jax.device_put(jnp.array([1, jnp.nan], dtype), sharding)
    assert first_nonfinite({"a": jnp.ones(2, dtype), "b": values, "c": jnp.array([jnp.inf])}) == "b"
    assert first_nonfinite({"a": jnp.ones(2, dtype), "n": np.arange(3), "k": jax.random.key(0), "x": 1.5}) is None


@pytest.mark.parametrize(
    "leaf", ["abc", len, object(), np.array(["a"]), np.datetime64(1, "s")], ids=lambda leaf: type(leaf).__name__
)
def test_snapshot_rejects_non_numeric_leaves_by_name(leaf: Any) -> None:
    with pytest.raises(CheckpointError, match=rf"^net\.name is {type(leaf).__name__}: expected numbers or a key"):
        snapshot({"net": {"name": leaf, "w": np.ones(2)}})


@pytest.mark.parametrize("leaf", [1, 2.5, True, np.float16(3), jnp.ones(2, jnp.bfloat16), np.ones(0)])
def test_snapshot_accepts_any_numeric_leaf(leaf: Any) -> None:
    assert snapshot({"x": leaf}).leaves["x"].shape == np.shape(leaf)
