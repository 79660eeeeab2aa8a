"""Strategies for configurations with any values that their annotations allow."""

import dataclasses
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.schema import Config

SECTIONS = ("data", "model", "init", "optim", "augment", "train", "population", "parallel", "run")
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
    if get_origin(hint) is Union:
        return st.one_of(*map(values, get_args(hint)))
    return {
        bool: st.booleans(),
        str | None: st.none() | st.text(),
        Path | None: st.none() | st.text(st.characters(exclude_characters="\0")).map(Path),
    }[hint]


def sections(name: str) -> st.SearchStrategy[Any]:
    kind = type(getattr(Config(), name))
    return st.builds(kind, **{item.name: values(hint_of(name, item.name)) for item in dataclasses.fields(kind)})


configs = st.builds(Config, preset=st.sampled_from(sorted(PRESETS)), **{name: sections(name) for name in SECTIONS})
