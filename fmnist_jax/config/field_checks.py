"""Finds the fields of a section whose values their type annotations do not allow."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from fmnist_jax.config import paths
from fmnist_jax.config.values import Range


def section_problems(section: str, values: Any) -> Iterator[tuple[str, str]]:
    """Yields the flag and the problem of each field whose value its type does not allow."""
    for name, hint in get_type_hints(type(values), include_extras=True).items():
        flag = f"--{section}.{name}".replace("_", "-")
        value = getattr(values, name)
        for expected, shown in _expectations(hint, value):
            yield flag, f"{flag} is {shown}: choose {expected}"
        if isinstance(value, Path) and (problem := paths.find_problem(value, flag)) is not None:
            yield flag, problem


class _Kind(NamedTuple):
    """A type of value without a range."""

    types: tuple[type, ...]
    name: str


_KINDS: Mapping[Any, _Kind] = {
    bool: _Kind((bool,), "true or false"),
    str | None: _Kind((str, type(None)), "a string"),
    Path | None: _Kind((Path, type(None)), "a path"),
}


def _expectations(hint: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """Yields what a type annotation expects, with the value (or tuple item) that violates it."""
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            yield (
                f"one of {', '.join(map(str, get_args(hint)))}",
                value if isinstance(value, str) else repr_with_type(value),
            )
    elif (kind := _KINDS.get(hint)) is not None:
        if not isinstance(value, kind.types):
            yield kind.name, repr_with_type(value)
    elif get_origin(hint) is Union:
        yield from _refused_by_each(get_args(hint), value)
    elif hasattr(hint, "__metadata__"):
        limits = next(limits for limits in hint.__metadata__ if isinstance(limits, Range))
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"a number in {limits}", repr_with_type(value)
        elif value not in limits:
            yield f"a value in {limits}", value
        elif hint.__origin__ is int and not isinstance(value, int):
            yield f"a whole number in {limits}", value
    elif get_origin(hint) is tuple:
        items = value if isinstance(value, tuple) else ()
        if not isinstance(value, tuple):
            yield "whole numbers, one for each stage", repr_with_type(value)
        for item in items:
            yield from _expectations(get_args(hint)[0], item)


def _refused_by_each(hints: Iterable[Any], value: Any) -> Iterator[tuple[str, Any]]:
    """Yields what a union of types expects, if none of them accepts the value."""
    refusals = [[expected for expected, _ in _expectations(hint, value)] for hint in hints]
    if all(refusals):
        yield " or ".join(refusal[0].removeprefix("one of ") for refusal in refusals), repr_with_type(value)


def repr_with_type(value: Any) -> str:
    """A value of an unexpected type, shown with that type."""
    return f"{value!r} ({type(value).__name__})"
