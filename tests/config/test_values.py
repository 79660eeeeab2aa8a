"""Values that configurations convert to Python's own types, and values that they reject by their type."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.config.schema import Config, DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from fmnist_jax.config.validation import validate
from fmnist_jax.config.values import Range, is_static_zero, to_builtin
from fmnist_jax.errors import ConfigError
from tests.faults.values import CONFIG_VALUES, is_accepted_or_named


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.bool_(True), True),
        (np.array(7), 7),
        (np.array([1, 2]), (1, 2)),
        ([np.int32(1), 2], (1, 2)),
        ((), ()),
        (True, True),
        ("3", "3"),
        (None, None),
    ],
)
def test_to_builtin_converts_numbers_and_sequences_to_python_types(value: Any, expected: Any) -> None:
    actual = to_builtin(value)
    assert actual == expected
    assert type(actual) is type(expected)


def test_to_builtin_leaves_jax_arrays_unchanged() -> None:
    array = jnp.float32(0.1)
    assert to_builtin(array) is array


def test_is_static_zero_only_for_python_zeros() -> None:
    assert [is_static_zero(value) for value in (0, 0.0, 0.1, 1, jnp.float32(0))] == [True, True, False, False, False]


def test_range_includes_its_bounds_unless_they_are_open() -> None:
    values = (0.9, 1, 1.5, 2, 2.1)
    assert [value in Range(1, 2) for value in values] == [False, True, True, True, False]
    assert [value in Range(1, 2, open_low=True) for value in values] == [False, False, True, True, False]
    assert [value in Range(1, 2, open_high=True) for value in values] == [False, True, True, False, False]
    assert [str(Range(1, 2, open_low=low, open_high=not low)) for low in (False, True)] == ["[1, 2)", "(1, 2]"]


def test_config_of_numpy_values_equals_the_one_of_python_values() -> None:
    config = Config(
        model=ModelConfig(widths=np.array([8, 16]), depths=[np.int64(1), 1]),  # type: ignore[arg-type]
        optim=OptimConfig(peak_lr=np.float64(0.25)),
        train=TrainConfig(seed=np.int64(3), eval_mirror=np.bool_(False)),  # type: ignore[arg-type]
    )
    validate(config)
    expected = Config(
        model=ModelConfig(widths=(8, 16), depths=(1, 1)),
        optim=OptimConfig(peak_lr=0.25),
        train=TrainConfig(seed=3, eval_mirror=False),
    )
    assert config == expected
    assert hash(config) == hash(expected)


@pytest.mark.parametrize("path", ["runs/x", Path("runs/x")])
def test_strings_are_converted_to_paths(path: Any) -> None:
    assert RunConfig(dir=path).dir == Path("runs/x")
    assert DataConfig(dir=path, raw_dir="~").raw_dir == Path.home()  # type: ignore[arg-type]


@pytest.mark.parametrize(("section", "field", "value", "expected_error"), CONFIG_VALUES)
def test_value_of_another_type_is_accepted_or_rejected_naming_its_type(
    section: str, field: str, value: Any, expected_error: str | None
) -> None:
    assert is_accepted_or_named(section, field, value, expected_error)


def test_section_of_another_type_is_rejected_naming_its_type() -> None:
    with pytest.raises(ConfigError, match=r"train is \{'epochs': 3\} \(dict\): give a TrainConfig"):
        validate(Config(train={"epochs": 3}))  # type: ignore[arg-type]
