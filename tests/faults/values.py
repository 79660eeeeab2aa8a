"""Values passed from Python: states to save, and configuration values of unexpected types."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fmnist_jax import Config, ConfigError, restore, save, state_digest, validate


def unusual_states() -> Mapping[str, Any]:
    """Pytrees to save in a checkpoint, by what is unusual about them."""
    return {
        "half precision": {"a": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3), "b": jnp.ones(3, jnp.float8_e4m3fn)},
        "keys deep inside": {"noise": [jax.random.key(3), {"many": jax.random.split(jax.random.key(1), (2, 3))}]},
        "keys of another kind": {"key": jax.random.key(0, impl="rbg")},
        "keys of the old kind": {"key": jax.random.PRNGKey(7)},
        "infinity and not a number": {"best": jnp.array([jnp.inf, -jnp.inf, jnp.nan])},
        "names with dots": {"a.b": jnp.ones(2), "a": {"b": jnp.zeros(2)}},
        "arrays without a value": {"w": jnp.ones(2), "buffer": jnp.zeros((0, 4)), "half": jnp.zeros(0, jnp.bfloat16)},
        "a list of numbers": [1, 2.5, np.float64(3), True],
        "scalars and odd types": (jnp.uint8(3), jnp.array(2 + 1j), jnp.array([True, False]), np.int16(-4)),
    }


def round_trips(tree: Any) -> bool:
    """Whether a pytree is restored from a checkpoint bit for bit, with its structure and dtypes."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "c", tree, step=3)
        restored = restore(Path(folder) / "c", 3, like=tree)
    dtypes_match = [
        actual.dtype == (np.asarray(expected).dtype if np.isscalar(expected) else expected.dtype)
        for actual, expected in zip(jax.tree.leaves(restored), jax.tree.leaves(tree), strict=True)
    ]
    same_structure = str(jax.tree.structure(restored)) == str(jax.tree.structure(tree))
    return all(dtypes_match) and same_structure and state_digest(restored) == state_digest(tree)


CONFIG_VALUES: Sequence[tuple[str, str, Any, str | None]] = [
    ("train", "seed", np.int64(3), None),
    ("train", "epochs", np.uint8(3), None),
    ("optim", "peak_lr", np.float32(0.5), None),
    ("optim", "momentum", np.array(0.5), None),
    ("model", "widths", [8, np.int32(16), 32], None),
    ("model", "depths", np.array([1, 2, 3]), None),
    ("train", "eval_mirror", np.bool_(False), None),
    ("run", "dir", "runs/x", None),
    ("data", "raw_dir", "~/raw", None),
    ("train", "seed", "3", "--train.seed is '3' (str): choose a number in [0, 4294967295]"),
    ("train", "epochs", True, "--train.epochs is True (bool): choose a number"),
    ("train", "batch_size", None, "--train.batch-size is None (NoneType): choose a number"),
    ("train", "epochs", np.float32(1.5), "--train.epochs is 1.5: choose a whole number"),
    ("optim", "peak_lr", 1j, "--optim.peak-lr is 1j (complex): choose a number"),
    ("optim", "name", None, "--optim.name is None (NoneType): choose one of sgd"),
    ("model", "widths", 8, "--model.widths is 8 (int): choose whole numbers"),
    ("model", "widths", "88", "--model.widths is '88' (str): choose whole numbers"),
    ("run", "tensorboard", 1, "--run.tensorboard is 1 (int): choose true or false"),
    ("run", "dir", 3, "--run.dir is 3 (int): choose a path"),
    ("data", "dir", b"x", "--data.dir is b'x' (bytes): choose a path"),
]
"""Section, field and value of a configuration, and the error message; None if the value is accepted."""


def is_accepted_or_named(section: str, field: str, value: Any, message: str | None) -> bool:
    """Whether a configuration accepts a value, or refuses it with the expected message."""
    config = Config()
    try:
        validate(replace(config, **{section: replace(getattr(config, section), **{field: value})}))
    except ConfigError as error:
        return message is not None and message in str(error)
    return message is None
