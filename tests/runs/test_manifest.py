"""The manifest: any change of a byte, a shape, a dtype or a field is detected."""

from typing import Any

import numpy as np
import pytest

from fmnist_jax.runs import manifest

_KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)
_LEAVES: dict[str, np.ndarray] = {"step": np.array(4, np.int32), "kernel": _KERNEL}


def test_manifest_accepts_the_arrays_that_it_was_made_from() -> None:
    record = manifest.make_manifest(_LEAVES, {}, 4, 0.5, {"seed": 1})
    manifest.check(record, 4, {"val_accuracy": 0.5})
    manifest.check_leaves(record, _LEAVES)


@pytest.mark.parametrize(
    "kernel",
    [
        np.nextafter(_KERNEL, np.float32(9)),
        _KERNEL.reshape(3, 2),
        _KERNEL.astype(np.float64),
        -_KERNEL,
    ],
    ids=["rounding", "shape", "dtype", "sign including zero"],
)
def test_check_leaves_rejects_changed_arrays(kernel: np.ndarray) -> None:
    record = manifest.make_manifest(_LEAVES, {}, 4, 0.5, {})
    with pytest.raises(ValueError, match="kernel does not match"):
        manifest.check_leaves(record, {**_LEAVES, "kernel": kernel})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", 5),
        ("val_accuracy", 0.6),
        ("origin", {"seed": 2}),
        ("format", 2),
        ("leaves", {}),
        ("keys", {"step": "rbg"}),
    ],
)
def test_check_rejects_a_manifest_with_a_changed_field(name: str, value: Any) -> None:
    changed = manifest.make_manifest(_LEAVES, {}, 4, 0.5, {"seed": 1}) | {name: value}
    with pytest.raises(ValueError, match="digest"):
        manifest.check(changed, 4, {"val_accuracy": 0.5})


def test_check_rejects_a_manifest_of_another_step_or_other_metrics() -> None:
    record = manifest.make_manifest(_LEAVES, {}, 4, 0.5, {})
    with pytest.raises(ValueError, match="step or metrics"):
        manifest.check(record, 5, {"val_accuracy": 0.5})
    with pytest.raises(ValueError, match="step or metrics"):
        manifest.check(record, 4, {"val_accuracy": 0.6})
