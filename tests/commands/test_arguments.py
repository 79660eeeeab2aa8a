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


def refused(*argv: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(*argv)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_positional_arguments_stand_before_or_after_flags() -> None:
    expected = Arguments(Path("oven"), ("rye", "-"), minutes=7)
    assert parse("oven", "rye", "-", "--minutes", "7") == expected
    assert parse("--minutes=7", "oven", "rye", "-") == expected
    assert parse("oven") == Arguments(Path("oven"))


def test_arguments_change_the_values_that_they_start_from() -> None:
    default = Arguments(Path("oven"), ("rye",), minutes=7, crust="hard")
    assert parse_arguments(Arguments, [], "bake", default) == default
    assert parse_arguments(Arguments, ["--crust", "soft"], "bake", default).minutes == 7


@pytest.mark.parametrize(
    ("argv", "words"),
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
def test_arguments_that_cannot_be_read_are_named_all_at_once(argv: list[str], words: list[str]) -> None:
    message = refused(*argv)
    assert all(word in message for word in words), message
    assert message.endswith("; see --help")


def test_what_stood_behind_a_refused_flag_is_not_called_missing() -> None:
    assert "Missing" not in refused("--minutes", "seven", "oven")


def test_values_that_cannot_be_used_are_told_with_arguments_that_cannot_be_read() -> None:
    def check(arguments: Arguments) -> None:
        if arguments.minutes < 1:
            raise ConfigError(f"--minutes is {arguments.minutes}: choose at least 1")

    argv = ["oven", "--minutes", "0", "--crust", "none"]
    with pytest.raises(ConfigError, match=r"'none'.*; --minutes is 0: choose at least 1$"):
        parse_arguments(Arguments, argv, "bake", check=check)
    with pytest.raises(ConfigError, match=r"^--minutes is 0: choose at least 1$"):
        parse_arguments(Arguments, argv[:3], "bake", check=check)


def test_help_goes_to_standard_output_and_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    out, err = capsys.readouterr()
    assert (stop.value.code or 0, err) == (0, "")
    assert all(word in out for word in ("usage: bake", "Bakes loaves.", "OVEN", "How long.", "{soft,hard}"))


TOKENS = st.sampled_from(["oven", "-", "--", "--minutes", "--crust", "hard", "7", "--bogus", "-1", "--crust="])


@settings(deadline=None, max_examples=60)
@given(st.lists(TOKENS | st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=5))
def test_any_arguments_are_parsed_or_refused_in_one_line(argv: list[str]) -> None:
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


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["a", "--oven", ""], "--oven is empty: give a value, or omit it"),
        (["", "--minutes="], "an argument is empty: give a value, or omit it; --minutes is empty: give"),
    ],
)
def test_a_variable_that_is_not_set_names_no_folder(argv: list[str], problem: str) -> None:
    assert refused(*argv).startswith(problem)
