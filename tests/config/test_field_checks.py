import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fmnist_jax.config.field_checks import repr_with_type, section_problems
from fmnist_jax.config.schema import Config, DataConfig, ModelConfig, TrainConfig
from tests.config.strategies import SECTIONS


@pytest.mark.parametrize("section", SECTIONS)
def test_defaults_have_no_problem_and_other_types_one_for_their_field(section: str) -> None:
    defaults = getattr(Config(), section)
    assert not list(section_problems(section, defaults))
    for field in dataclasses.fields(defaults):
        for value in ({}, object()):
            problems = list(section_problems(section, replace(defaults, **{field.name: value})))
            flag = f"--{section}.{field.name}".replace("_", "-")
            assert [name for name, _ in problems] == [flag]
            assert problems[0][1].startswith(f"{flag} is {repr_with_type(value)}: choose ")


@pytest.mark.parametrize(
    ("section", "values", "expected"),
    [
        ("data", DataConfig(name="mnist"), "--data.name is mnist: choose one of fashion_mnist, "),  # type: ignore[arg-type]
        ("data", DataConfig(file=3), "--data.file is 3 (int): choose a path"),  # type: ignore[arg-type]
        ("data", DataConfig(dir=Path("gs://bucket")), "--data.dir is gs:/bucket, an address"),
        ("train", TrainConfig(epochs=1.5), "--train.epochs is 1.5: choose a whole number in "),  # type: ignore[arg-type]
        ("train", TrainConfig(epochs=True), "--train.epochs is True (bool): choose a number in "),
        ("model", ModelConfig(widths=(8, 0)), "--model.widths is 0: choose a value in "),
        ("model", ModelConfig(widths=8), "--model.widths is 8 (int): choose whole numbers, one for each stage"),  # type: ignore[arg-type]
    ],
)
def test_problem_names_flag_value_and_what_is_expected(section: str, values: Any, expected: str) -> None:
    ((_, problem),) = section_problems(section, values)
    assert problem.startswith(expected)
