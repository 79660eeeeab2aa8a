import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro
from hypothesis import given, settings, strategies as st

from fmnist_jax.commands.arguments import parse_arguments
from fmnist_jax.errors import ConfigError


@dataclass(frozen=True)
class Arguments:
    """Bakes loaves."""

    oven: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OVEN")]
    """Where."""
    loaves: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which."""
    minutes: int = 40
    """How long."""
    crust: Literal["soft", "hard"] = "soft"
    """How."""


def parse(*argv: str) -> Arguments:
    return parse_arguments(Arguments, argv, prog="bake")


def parse_error(*argv: str) -> str:
    with pytest.raises(ConfigError) as exc_info:
        parse(*argv)
    message = str(exc_info.value)
    assert len(message.splitlines()) == 1
    return message


def test_positional_arguments_may_precede_or_follow_flags() -> None:
    expected = Arguments(Path("oven"), ("rye", "-"), minutes=7)
    assert parse("oven", "rye", "-", "--minutes", "7") == expected
    assert parse("--minutes=7", "oven", "rye", "-") == expected
    assert parse("oven") == Arguments(Path("oven"))


def test_misspelt_required_flag_is_named_beside_the_missing_one() -> None:
    @dataclass(frozen=True)
    class Recipe:
        flour: int
        """Grams."""
        water: int
        """Grams."""

    with pytest.raises(ConfigError) as exc_info:
        parse_arguments(Recipe, ["--fluor=500", "--water", "300"], "bake")
    assert str(exc_info.value) == (
        "Missing: --flour INT; Unrecognized options: --fluor (did you mean --flour?); see --help"
    )


def test_arguments_override_the_given_defaults() -> None:
    default = Arguments(Path("oven"), ("rye",), minutes=7, crust="hard")
    assert parse_arguments(Arguments, [], "bake", default) == default
    assert parse_arguments(Arguments, ["--crust", "soft"], "bake", default).minutes == 7


@pytest.mark.parametrize(
    ("argv", "fragments"),
    [
        ([], ["Missing", "OVEN"]),
        (["--minutes", "7"], ["Missing", "OVEN"]),
        (["oven", "--minute", "7"], ["--minute", "did you mean --minutes?"]),
        (["oven", "--bogus"], ["--bogus"]),
        (["oven", "--minutes", "seven"], ["--minutes", "'seven'"]),
        (["oven", "--crust", "none"], ["--crust", "'none'", "'soft', 'hard'"]),
        (["oven", "--crust", "none", "--minutes", "seven"], ["'none'", "'seven'"]),
        (["oven", "--crust", "none", "--minutes", "seven", "--bogus", "1"], ["'none'", "'seven'", "--bogus"]),
    ],
)
def test_all_invalid_arguments_are_reported_together(argv: list[str], fragments: list[str]) -> None:
    message = parse_error(*argv)
    assert all(fragment in message for fragment in fragments), message
    assert message.endswith("; see --help")
    assert ".;" not in message


def test_positional_after_an_invalid_flag_value_is_not_reported_as_missing() -> None:
    assert "Missing" not in parse_error("--minutes", "seven", "oven")


def test_check_errors_are_reported_together_with_parse_errors() -> None:
    def check(arguments: Arguments) -> None:
        if arguments.minutes < 1:
            raise ConfigError(f"--minutes is {arguments.minutes}: choose at least 1")

    argv = ["oven", "--minutes", "0", "--crust", "none"]
    with pytest.raises(ConfigError, match=r"'none'.*; --minutes is 0: choose at least 1$"):
        parse_arguments(Arguments, argv, "bake", check=check)
    with pytest.raises(ConfigError, match=r"^--minutes is 0: choose at least 1$"):
        parse_arguments(Arguments, argv[:3], "bake", check=check)


def test_help_is_printed_to_stdout_and_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exc_info:
        parse("--help")
    out, err = capsys.readouterr()
    assert (exc_info.value.code or 0, err) == (0, "")
    assert all(word in out for word in ("usage: bake", "Bakes loaves.", "OVEN", "How long.", "{soft,hard}"))


TOKENS = st.sampled_from(["oven", "-", "--", "--minutes", "--crust", "hard", "7", "--bogus", "-1", "--crust="])


@settings(deadline=None, max_examples=60)
@given(st.lists(TOKENS | st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=5))
def test_any_arguments_are_parsed_or_rejected_with_a_one_line_error(argv: list[str]) -> None:
    message = "parsed"
    code: str | int | None = 0
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            parse(*argv)
        except ConfigError as error:
            message = str(error)
        except SystemExit as stop:
            code = stop.code
    assert len(message.splitlines()) == 1
    assert not code


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "ascii", "latin-1"])
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "Missing: OVEN; see --help"),
        (["a", "--minuts", "3"], "Unrecognized options: --minuts, 3 (did you mean --minutes?); see --help"),
    ],
)
def test_messages_are_the_same_in_every_encoding_of_the_terminal(
    argv: list[str], message: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert parse_error(*argv) == message


@pytest.mark.parametrize(("no_color", "colored"), [("1", False), ("", True), (None, True)])
def test_help_in_a_terminal_is_colored_unless_no_color_is_set(
    no_color: str | None, colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    with pytest.raises(SystemExit):
        parse("--help")
    screen.seek(0)
    text = screen.read()
    assert "--minutes" in text
    assert ("\x1b[" in text) == colored


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["a", "--oven", ""], "--oven is empty: give a value, or omit it"),
        (["", "--minutes="], "an argument is empty: give a value, or omit it; --minutes is empty: give"),
    ],
)
def test_empty_argument_values_are_rejected(argv: list[str], problem: str) -> None:
    assert parse_error(*argv).startswith(problem)
