"""Optional values on the command line and in its help."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from fmnist_jax.commands.arguments import parse_arguments


@dataclass(frozen=True)
class _Data:
    """Where the data are."""

    place: Path | None = None
    """What the data lie in."""


@dataclass(frozen=True)
class _Arguments:
    places: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PLACE...")]
    """Where to look."""
    out: Path | None = None
    """Where to write, a place that no run has taken, which this says in more words than there is room for in a
    line of the source. Default: here."""
    pattern: str | None = "Conv_*"
    """What to keep."""
    size: int | None = None
    """How much."""
    names: tuple[str, ...] = ()
    data: _Data = field(default_factory=_Data)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], _Arguments(())),
        (["x", "--out", "a b/c", "--pattern", "*"], _Arguments(("x",), Path("a b/c"), "*")),
        (
            ["x", "y", "--out=unset", "--pattern=unset", "--size", "3"],
            _Arguments(("x", "y"), Path("unset"), "unset", 3),
        ),
        (["--out", "None", "--pattern", "None", "--size", "None"], _Arguments((), None, None, None)),
    ],
)
def test_optional_values_are_parsed_and_the_word_none_means_unset(argv: list[str], expected: _Arguments) -> None:
    assert parse_arguments(_Arguments, argv, "prog") == expected
    assert parse_arguments(_Arguments, argv, "prog", _Arguments(())) == expected


def test_help_shows_the_value_type_and_default_of_optional_flags(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    with pytest.raises(SystemExit):
        parse_arguments(_Arguments, ["--help"], "prog")
    text = capsys.readouterr().out
    normalized = " ".join(re.sub(r"[│─╭╮╰╯|+]|-{3,}", " ", text).split())
    assert "in a line of the source. Default: here. --pattern" in normalized
    assert "PLACE... Where to look. (required)" in normalized
    assert "--pattern STR What to keep. (default: 'Conv_*')" in normalized
    assert "How much. (default: None)" in normalized
    assert "(default: unset) data options Where the data are." in normalized
    assert "--data.place PATH What the data lie in. (default: unset)" in normalized
    assert "Where to write, a place that no run has taken, which this says in more words than there is room for" in text
    assert "room for in a line of the source. Default: here." in text
