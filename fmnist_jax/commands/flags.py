"""How the fields of a dataclass become flags and their help: rules beside those that tyro has."""

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

_OPTIONAL = {Path | None: (Path, "PATH"), str | None: (str, "STR")}


def _optional_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Shows paths and strings that may be None by their kind alone; tyro by itself shows `{None}|PATH`."""
    if info.type not in _OPTIONAL:
        return None
    kind, metavar = _OPTIONAL[info.type]
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda values: None if values == ["None"] else kind(values[0]),
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: ["unset" if value is None else str(value)],
    )


def _dataclass_rule(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Wraps the docstrings of fields anew; tyro 1.0 breaks them where their source does, because that is indented."""
    if not is_dataclass(info.type):
        return None
    hints = get_type_hints(info.type, include_extras=True)

    def default(field: Any) -> Any:
        if isinstance(info.default, info.type):
            return getattr(info.default, field.name)
        value_or_missing = field.default if field.default_factory is MISSING else field.default_factory()
        return tyro.MISSING if value_or_missing is MISSING else value_or_missing

    field_specs = []
    for field in fields(info.type):
        flag, value, text = hints[field.name], default(field), partial(_help_text, info.type, field.name)
        if value is tyro.MISSING:  # tyro itself calls no argument at all the default of a positional tuple
            flag = Annotated[flag, tyro.conf.arg(help_behavior_hint="(required)")]
        elif value in (None, ()):
            flag = Annotated[flag, tyro.conf.arg(help_behavior_hint=partial(_default_hint, text))]
        field_specs.append(StructFieldSpec(field.name, flag, value, text))
    return StructConstructorSpec(info.type, tuple(field_specs))


def _help_text(kind: type, name: str) -> str | None:
    texts = {each.arg_name: each.description for each in docstring_parser.parse_from_object(kind).params}
    return " ".join((texts.get(name) or "").split()) or None


def _default_hint(text: Callable[[], str | None], label: str) -> str:
    """The hint at a value that is unset by default, if the help does not say itself what is used then."""
    return "" if "Default:" in (text() or "") else f"(default: {label or 'unset'})"


RULES = ConstructorRegistry()
"""For `tyro.cli(..., registry=RULES)`."""
RULES.primitive_rule(_optional_rule)
RULES.struct_rule(_dataclass_rule)
