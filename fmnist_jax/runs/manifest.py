"""The manifest of a checkpoint: what its arrays are verified against."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

_FORMAT = 1


def make_manifest(
    leaves: Mapping[str, np.ndarray],
    keys: Mapping[str, str],
    step: int,
    val_accuracy: float,
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """Describes arrays by dtype, shape and SHA-256, and adds a SHA-256 of the description itself.

    Args:
      leaves: arrays by name.
      keys: the key implementation of each array that holds the data of a typed key.
      step: the checkpoint's number.
      val_accuracy: the score by which the best checkpoint is chosen.
      origin: JSON values that say where the arrays come from.
    """
    manifest = {
        "format": _FORMAT,
        "step": step,
        "val_accuracy": val_accuracy,
        "leaves": {name: describe(leaf) for name, leaf in leaves.items()},
        "keys": dict(keys),
        "origin": dict(origin),
    }
    return manifest | {"sha256": _digest(manifest)}


def check(manifest: Mapping[str, Any], step: int, metrics: Mapping[str, Any]) -> None:
    """Checks a manifest against its own digest, and against the step and metrics stored with it.

    Raises:
      ValueError: it is damaged, of another format, or of another checkpoint.
    """
    if _digest({name: value for name, value in manifest.items() if name != "sha256"}) != manifest["sha256"]:
        raise ValueError("its manifest does not match its digest")
    if manifest["format"] != _FORMAT:
        raise ValueError(f"its format is {manifest['format']}, expected {_FORMAT}")
    if manifest["step"] != step or metrics != {"val_accuracy": manifest["val_accuracy"]}:
        raise ValueError("its step or metrics do not match its manifest")


def check_leaves(manifest: Mapping[str, Any], leaves: Mapping[str, np.ndarray]) -> None:
    """Checks every byte of the arrays against the manifest.

    Raises:
      ValueError: one differs.
    """
    for name, expected in manifest["leaves"].items():
        if describe(leaves[name]) != expected:
            raise ValueError(f"{name} does not match its SHA-256")


def describe(leaf: np.ndarray) -> dict[str, Any]:
    """Returns the dtype, shape and SHA-256 of an array."""
    # As bytes, because NumPy exports no buffer for bfloat16 and similar types.
    digest = hashlib.sha256(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data).hexdigest()
    return {"dtype": str(leaf.dtype), "shape": list(leaf.shape), "sha256": digest}


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
