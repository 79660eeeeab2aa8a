"""Values that may be left unset, on the command line and in its help."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from fmnist_jax.commands import cli


@dataclass(frozen=True)
class _Arguments:
    out: Path | None = None
    """Where to write."""
    pattern: str | None = "Conv_*"
    """What to keep."""
    size: int | None = None
    """How much."""


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], _Arguments()),
        (["--out", "a b/c", "--pattern", "*"], _Arguments(Path("a b/c"), "*")),
        (["--out=unset", "--pattern=unset", "--size", "3"], _Arguments(Path("unset"), "unset", 3)),
        (["--out", "None", "--pattern", "None", "--size", "None"], _Arguments(None, None, None)),
    ],
)
def test_a_value_is_taken_and_none_is_no_value(argv: list[str], expected: _Arguments) -> None:
    assert cli.parse_arguments(_Arguments, argv, "prog") == expected
    assert cli.parse_arguments(_Arguments, argv, "prog", _Arguments()) == expected


def test_the_help_shows_the_kind_of_value_and_whether_it_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        cli.parse_arguments(_Arguments, ["--help"], "prog")
    text = capsys.readouterr().out
    assert "--out PATH " in text
    assert "Where to write. (default: unset)" in text
    assert "--pattern STR " in text
    assert "What to keep. (default: 'Conv_*')" in text
