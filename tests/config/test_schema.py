import ast
import dataclasses
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import assume, given, settings, strategies as st

from fmnist_jax.config import schema as config_module
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.record import diff, from_dict, to_dict
from fmnist_jax.config.schema import Config, DataConfig, RunConfig, TrainConfig
from fmnist_jax.config.values import Range
from fmnist_jax.errors import ConfigError

SECTIONS = ("data", "model", "optim", "augment", "train", "run")
FIELDS = [(name, item.name) for name in SECTIONS for item in dataclasses.fields(getattr(Config(), name))]


def hint_of(section: str, name: str) -> Any:
    return get_type_hints(type(getattr(Config(), section)), include_extras=True)[name]


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values that an annotation allows, its `Range` included."""
    if hasattr(hint, "__metadata__"):
        (limits,) = hint.__metadata__
        if hint.__origin__ is int:
            return st.integers(int(limits.low), int(limits.high))
        return st.floats(limits.low, limits.high, exclude_min=limits.open_low, exclude_max=limits.open_high)
    if get_origin(hint) is tuple:
        return st.lists(values(get_args(hint)[0]), min_size=1, max_size=4).map(tuple)
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    return st.booleans() if hint is bool else st.none() | st.text(st.characters(exclude_characters="\0")).map(Path)


def sections(name: str) -> st.SearchStrategy[Any]:
    kind = type(getattr(Config(), name))
    return st.builds(kind, **{item.name: values(hint_of(name, item.name)) for item in dataclasses.fields(kind)})


configs = st.builds(Config, preset=st.sampled_from(sorted(PRESETS)), **{name: sections(name) for name in SECTIONS})


@settings(deadline=None, max_examples=40)
@given(configs)
def test_dict_round_trip_survives_json(config: Config) -> None:
    assert from_dict(to_dict(config)) == config
    assert from_dict(json.loads(json.dumps(to_dict(config), allow_nan=False))) == config


@settings(deadline=None, max_examples=40)
@given(configs, configs, st.sets(st.sampled_from(FIELDS)))
def test_diff_lists_exactly_the_changed_fields(old: Config, other: Config, chosen: set[tuple[str, str]]) -> None:
    new = old
    for section, name in chosen:
        value = getattr(getattr(other, section), name)
        new = dataclasses.replace(new, **{section: dataclasses.replace(getattr(new, section), **{name: value})})
    changed = [
        f"{section}.{name}"
        for section, name in FIELDS
        if getattr(getattr(old, section), name) != getattr(getattr(new, section), name)
    ]
    assert [line.split(":")[0] for line in diff(old, new)] == changed


def test_diff_says_old_and_new_value() -> None:
    old = Config(train=TrainConfig(epochs=20))
    new = Config(preset="fast", train=TrainConfig(epochs=3), data=DataConfig(dir=Path("/data")))
    assert diff(old, new) == ["preset: standard -> fast", "data.dir: None -> /data", "train.epochs: 20 -> 3"]


@pytest.mark.parametrize("section", SECTIONS)
def test_from_dict_names_unknown_and_missing_fields(section: str) -> None:
    known = to_dict(Config())
    first = next(iter(known[section]))
    with pytest.raises(ConfigError, match=rf"'{section}'.*\bsurprise\b"):
        from_dict({**known, section: {**known[section], "surprise": 1}})
    if section != "run":
        with pytest.raises(ConfigError, match=rf"'{section}'.*\b{first}\b"):
            from_dict({**known, section: {name: value for name, value in known[section].items() if name != first}})
    with pytest.raises(ConfigError, match=f"'{section}'"):
        from_dict({name: value for name, value in known.items() if name != section})


def test_from_dict_refuses_an_unknown_section() -> None:
    with pytest.raises(ConfigError, match="surprise"):
        from_dict({**to_dict(Config()), "surprise": {}})


def test_what_an_earlier_version_did_not_know_of_a_run_takes_its_default_and_nothing_else_does() -> None:
    values = to_dict(Config(run=RunConfig(log_every=3)))
    del values["run"]["tensorboard"]
    assert from_dict(values) == Config(run=RunConfig(log_every=3))
    with pytest.raises(ConfigError, match="other fields than this version: follow"):
        from_dict({**values, "run": {**values["run"], "follow": True}})
    del values["train"]["seed"]
    with pytest.raises(ConfigError, match="other fields than this version: seed"):
        from_dict(values)


def test_what_earlier_versions_had_not_takes_its_default() -> None:
    values = to_dict(Config())
    del values["data"]["file"], values["data"]["total"]
    assert from_dict(values) == Config()


def test_configurations_are_frozen_and_hashable() -> None:
    config = Config()
    assert hash(config) == hash(Config())
    for part in (config, *(getattr(config, section) for section in SECTIONS)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)


@settings(deadline=None)
@given(st.integers(1, 100_000), st.integers(10, 10_000_000), st.integers(0, 10_000_000), st.integers(1, 65_536))
def test_total_steps_take_in_every_epoch_and_no_step_more(epochs: int, size: int, held_out: int, batch: int) -> None:
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
def test_range_holds_its_bounds_as_it_prints_them(
    limits: Range, inside: list[float], outside: list[float], text: str
) -> None:
    assert all(value in limits for value in inside)
    assert not any(value in limits for value in [*outside, math.nan, math.inf, -math.inf])
    assert str(limits) == text


def docstrings() -> dict[tuple[str, str], str]:
    """The string below each field, by class and field name."""
    found = {}
    tree = ast.parse(Path(config_module.__file__).read_text())
    for kind in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for field, below in pairwise(kind.body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[kind.name, name] = text
    return found


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_field_says_what_it_is_and_its_range(section: str, name: str) -> None:
    text = docstrings()[type(getattr(Config(), section)).__name__, name]
    hint = hint_of(section, name)
    each = get_origin(hint) is tuple
    item = get_args(hint)[0] if each else hint
    if getattr(item, "__origin__", item) not in (int, float):
        assert "In [" not in text
        return
    (limits,) = item.__metadata__
    assert isinstance(limits, Range)
    assert text.endswith(f"{'Each in' if each else 'In'} {limits}.")
