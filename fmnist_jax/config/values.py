"""The values of a configuration, converted to plain Python values, and the ranges of the numeric ones."""

import dataclasses
import numbers
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmnist_jax.config import paths


@dataclass(frozen=True)
class Range:
    """The values that a numeric field may take, each bound included unless marked open."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"{left}{self.low:.12g}, {self.high:.12g}{right}"


class Section:
    """A part of a configuration, which converts its fields to plain values when created."""

    def __post_init__(self) -> None:
        """Converts NumPy scalars to Python's, lists to tuples, and text (but not "") to a path in fields of paths."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # a dataclass is what each subclass is
            value = getattr(self, field.name)
            is_path = field.type == Path | None and isinstance(value, str | os.PathLike) and os.fspath(value) != ""
            object.__setattr__(self, field.name, paths.expand(value) if is_path else to_builtin(value))


def to_builtin(value: Any) -> Any:
    """Converts numbers, booleans and sequences to Python's own; anything else, such as a traced array, is unchanged."""
    if type(value).__module__ == "numpy":
        return to_builtin(value.tolist())
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):  # such as a Fraction
        return float(value)
    if isinstance(value, list | tuple):
        return tuple(map(to_builtin, value))
    return value


def is_static_zero(value: Any) -> bool:
    """Whether a field is a plain 0, which leaves its part out.

    An array always counts as on, whatever its value, because JAX may be tracing it.
    """
    return isinstance(value, int | float) and not value
