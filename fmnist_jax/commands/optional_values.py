"""How flags whose value may be left unset are shown: `--run.dir PATH … (default: unset)`."""

from pathlib import Path
from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

_KINDS = {Path | None: (Path, "PATH"), str | None: (str, "STR")}


def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Shows paths and strings that may be None by their kind alone; tyro by itself shows `{None}|PATH`."""
    if info.type not in _KINDS:
        return None
    kind, metavar = _KINDS[info.type]
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda values: None if values == ["None"] else kind(values[0]),
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: ["unset" if value is None else str(value)],
    )


RULES = ConstructorRegistry()
"""tyro's rules and the one above, for `tyro.cli(..., registry=RULES)`."""
RULES.primitive_rule(_optional)
