"""Files of JSON objects, one per line, to which a run appends as it trains."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmnist_jax.errors import FmnistError
from fmnist_jax.system.storage import error_reason, error_remedy


def to_line(record: Mapping[str, Any]) -> str:
    """Formats a record as a line of JSON, which has no infinities or NaN: such a number becomes null."""
    return json.dumps(_finite(record), allow_nan=False) + "\n"


def read(path: Path) -> list[dict[str, Any]]:
    """Reads the objects of a file, each with a step, except a last line that was cut short; none if there is no file.

    Raises:
      FmnistError: the file cannot be read, or another line is not such an object.
    """
    try:
        lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [_parse(line, number) for number, line in enumerate(lines, 1)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FmnistError(f"{path} cannot be read ({error_reason(error)}): {error_remedy(error)}") from error
    except ValueError as error:
        raise FmnistError(f"{path} is damaged ({error}): fix or delete the line") from error


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parse(line: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number} is not valid JSON") from error
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        raise ValueError(f"line {number} is not an object with a step")
    return record
