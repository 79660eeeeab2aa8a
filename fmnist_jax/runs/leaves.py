"""Converts any pytree of arrays and keys to NumPy arrays by name, and back, for checkpoints and digests."""

import hashlib
import json
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr

from fmnist_jax.errors import CheckpointError
from fmnist_jax.runs import manifest


class Snapshot(NamedTuple):
    """A copy of every leaf of a pytree, on the host."""

    leaves: dict[str, np.ndarray]
    """By name, such as `params.Conv_0.kernel`; for a typed key, its u32 data."""
    keys: dict[str, str]
    """The implementation, such as `threefry2x32`, of each leaf that is a typed key."""

    def without(self, field: str | None) -> "Snapshot":
        """The same, but for the leaves of one field of the state."""
        return self._replace(leaves={name: leaf for name, leaf in self.leaves.items() if field_of(name) != field})


def field_of(name: str) -> str:
    """The field of the state that a leaf of this name belongs to.

    The name is `opt_state.0.count`, or `.opt_state[0].count` where a key of a dictionary contains a dot.
    """
    return re.split(r"[.\[]", name.lstrip("."))[0]


def snapshot(tree: Any) -> Snapshot:
    """Copies a pytree to the host.

    Raises:
      CheckpointError: a leaf is not an array of numbers, a number or a key.
    """
    leaves, _ = named_leaves(tree)
    for name, leaf in leaves.items():
        if not _is_key(leaf) and _dtype(leaf).kind in "OSUMm":
            raise CheckpointError(f"{name} is {type(leaf).__name__}: expected numbers or a key; leave it out")
    keys = {name: str(jax.random.key_impl(leaf)) for name, leaf in leaves.items() if _is_key(leaf)}
    data = {name: jax.random.key_data(leaf) if name in keys else leaf for name, leaf in leaves.items()}
    # A real copy: on the CPU a NumPy array may share JAX's buffer, which is donated to the next step and overwritten.
    return Snapshot({name: np.array(leaf) for name, leaf in jax.device_get(data).items()}, keys)


def rebuild(saved: Snapshot, like: Any) -> Any:
    """Puts the leaves of a snapshot into the structure of another pytree, placed as its leaves are.

    Args:
      saved: the snapshot. A leaf that it does not record as a key becomes one where `like` has a key.
      like: arrays, or `jax.ShapeDtypeStruct`s, with the expected shapes, dtypes and (if any) shardings.

    Raises:
      ValueError: a leaf is missing or unexpected, or has another shape or dtype; the message names the first such leaf.
    """
    expected, structure = named_leaves(like)
    for name in [*expected, *saved.leaves]:
        if name not in saved.leaves:
            raise ValueError(f"it has no {name}")
        if name not in expected:
            raise ValueError(f"it has {name}, which is not expected")
    return jax.tree.unflatten(structure, [_restored_leaf(name, saved, leaf) for name, leaf in expected.items()])


def _restored_leaf(name: str, saved: Snapshot, like: Any) -> jax.Array | np.ndarray:
    """A leaf with the type and the placement of its counterpart."""
    leaf: Any = saved.leaves[name]
    # The key implementation was not always recorded; before it was, it was always JAX's default.
    implementation = saved.keys.get(name, "threefry2x32" if _is_key(like) else None)
    if implementation is not None and leaf.dtype == np.uint32 and leaf.ndim:
        leaf = jax.random.wrap_key_data(leaf, impl=implementation)
    if (leaf.shape, leaf.dtype) != (np.shape(like), _dtype(like)):
        found, expected = f"{leaf.dtype}{list(leaf.shape)}", f"{_dtype(like)}{list(np.shape(like))}"
        raise ValueError(f"{name} is {found}, where {expected} is expected")
    if not isinstance(like, jax.Array | jax.ShapeDtypeStruct):
        return leaf  # a NumPy array, whose 64-bit values JAX would reduce to 32 bits
    return jax.device_put(leaf, like.sharding if getattr(like, "committed", hasattr(like, "sharding")) else None)


def named_leaves(tree: Any) -> tuple[dict[str, Any], Any]:
    """The leaves of a pytree by name, and its structure."""
    paths, structure = jax.tree_util.tree_flatten_with_path(tree)
    names = [keystr(path, simple=True, separator=".") for path, _ in paths]
    if len(set(names)) < len(names):  # a dictionary key contains a dot
        names = [keystr(path) for path, _ in paths]
    return dict(zip(names, (leaf for _, leaf in paths), strict=True)), structure


def state_digest(state: Any) -> str:
    """SHA-256, as hex, over the name, dtype, shape and bytes of every leaf of a pytree."""
    described = {name: manifest.describe(leaf) for name, leaf in snapshot(state).leaves.items()}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def first_nonfinite(tree: Any) -> str | None:
    """The name of the first leaf of a pytree with a value that is not finite, or None."""
    for name, leaf in named_leaves(tree)[0].items():
        if jnp.issubdtype(_dtype(leaf), jnp.inexact) and not np.isfinite(jax.device_get(leaf)).all():
            return name
    return None


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(_dtype(leaf), jax.dtypes.prng_key)


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
