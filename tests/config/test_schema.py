import ast
import dataclasses
import math
from itertools import pairwise
from pathlib import Path
from typing import Union, get_args, get_origin

import pytest
from hypothesis import assume, given, settings, strategies as st

from fmnist_jax.config import schema as config_module
from fmnist_jax.config.schema import Config, DataConfig, TrainConfig
from fmnist_jax.config.values import Range
from tests.config.strategies import FIELDS, SECTIONS, hint_of


def test_configurations_are_frozen_and_hashable() -> None:
    config = Config()
    assert hash(config) == hash(Config())
    for part in (config, *(getattr(config, section) for section in SECTIONS)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)


@settings(deadline=None)
@given(st.integers(1, 100_000), st.integers(10, 10_000_000), st.integers(0, 10_000_000), st.integers(1, 65_536))
def test_total_steps_cover_every_epoch_without_an_extra_step(epochs: int, size: int, held_out: int, batch: int) -> None:
    assume(held_out < size and epochs * (size - held_out) < 2**31)
    config = Config(
        data=DataConfig(name="synthetic", synthetic_train_size=size, validation_size=held_out),
        train=TrainConfig(epochs=epochs, batch_size=batch),
    )
    examples = epochs * (size - held_out)
    assert (config.total_steps - 1) * batch < examples <= config.total_steps * batch


def test_train_size_counts_the_images_of_the_named_data_set() -> None:
    assert DataConfig(validation_size=5_000, synthetic_train_size=100).train_size == 55_000
    assert DataConfig(name="synthetic", validation_size=40, synthetic_train_size=100).train_size == 60


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "text"),
    [
        (Range(0, 1), [0, 0.5, 1], [-1e-9, 1 + 1e-9], "[0, 1]"),
        (Range(0, 1, open_low=True), [1e-300, 1], [0, -1], "(0, 1]"),
        (Range(0, 1, open_high=True), [0, math.nextafter(1, 0)], [1, 2], "[0, 1)"),
        (Range(-2, 3.5, open_low=True, open_high=True), [0], [-2, 3.5], "(-2, 3.5)"),
        (Range(0, 2**32 - 1), [2**32 - 1], [2**32], "[0, 4294967295]"),
    ],
)
def test_range_contains_its_bounds_as_it_prints_them(
    limits: Range, inside: list[float], outside: list[float], text: str
) -> None:
    assert all(value in limits for value in inside)
    assert not any(value in limits for value in [*outside, math.nan, math.inf, -math.inf])
    assert str(limits) == text


def field_docstrings() -> dict[tuple[str, str], str]:
    """The string below each field, by class and field name."""
    docstrings = {}
    tree = ast.parse(Path(config_module.__file__).read_text())
    for class_def in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for field, following in pairwise(class_def.body):
            match field, following:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docstrings[class_def.name, name] = text
    return docstrings


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_field_has_a_docstring_that_states_its_range(section: str, name: str) -> None:
    text = field_docstrings()[type(getattr(Config(), section)).__name__, name]
    hint = hint_of(section, name)
    is_tuple = get_origin(hint) is tuple
    item = get_args(hint)[0] if is_tuple else hint
    if get_origin(hint) is Union:  # of a literal and a number
        item = next(kind for kind in get_args(hint) if hasattr(kind, "__metadata__"))
    if getattr(item, "__origin__", item) not in (int, float):
        assert "In [" not in text
        return
    (limits,) = item.__metadata__
    assert isinstance(limits, Range)
    assert text.endswith(f"{'Each in' if is_tuple else 'In'} {limits}.")
