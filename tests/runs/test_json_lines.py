"""Tests of `fmnist_jax.runs.json_lines`."""

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, strategies as st

from fmnist_jax.errors import FmnistError
from fmnist_jax.runs import json_lines

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_RECORDS = st.dictionaries(
    st.text(), st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
)


def _refuse_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


@given(_RECORDS)
def test_finite_record_is_unchanged_in_one_line(record: dict[str, Any]) -> None:
    line = json_lines.to_line(record)
    assert line.splitlines(keepends=True) == [line]
    assert json.loads(line) == record


def test_infinite_and_nan_losses_become_null_in_members_too() -> None:
    losses = (0.5, float("inf"), float("nan"))
    line = json_lines.to_line({"step": 3, "val_loss": float("inf"), "members": {"val_loss": losses}})
    assert json.loads(line, parse_constant=_refuse_constant) == {
        "step": 3,
        "val_loss": None,
        "members": {"val_loss": [0.5, None, None]},
    }


def test_lines_are_read_as_written_without_one_that_was_cut_short(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [{"step": 1, "train_loss": 0.25}, {"step": 2, "members": {"val_loss": [0.5, 1.5]}}]
    (tmp_path / "metrics.jsonl").write_text("".join(map(json_lines.to_line, records)) + '{"step": 3, "tra')
    assert json_lines.read(tmp_path / "metrics.jsonl") == records


def test_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert json_lines.read(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"st', "line 3 is not valid JSON"),
        ("[" * 100_000, "line 3 is not valid JSON"),
        *[(line, "line 3 is not an object with a step") for line in ("5", "null", "[1]", "{}", '{"step": "2"}')],
        ('{"step": true}', "line 3 is not an object with a step"),
    ],
)
def test_damaged_line_error_gives_the_line_number(line: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{{"step": 2}}\n{line}\n{{"step": 4}}\n')
    with pytest.raises(FmnistError, match=rf"metrics\.jsonl is damaged \({problem}\): fix or delete the line"):
        json_lines.read(tmp_path / "metrics.jsonl")
