"""Parses arguments into a dataclass; all that is wrong with them is told in one line."""

import contextlib
import difflib
import io
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, TextIO, TypeVar, cast

import tyro

from fmnist_jax.commands.cli import convert_stdout_errors
from fmnist_jax.commands.flags import RULES
from fmnist_jax.errors import ConfigError

T = TypeVar("T")


def parse_arguments(
    kind: type[T],
    argv: Sequence[str],
    prog: str | None = None,
    default: T | None = None,
    check: Callable[[T], None] = lambda _: None,
) -> T:
    """Parses arguments into a dataclass, whose docstrings are the help text; `tyro.conf.Positional` marks positionals.

    Args:
      kind: the dataclass.
      argv: the arguments.
      prog: how the command is called, for the help; by default, as this process was.
      default: the values that the arguments override; by default, the class's own.
      check: raises ConfigError for values that parse but cannot be used.

    Raises:
      ConfigError: arguments are unknown, malformed, missing or unusable; one line names every problem.
      SystemExit: with code 0, after printing the help that was asked for.
    """
    refuse_empty(argv)
    prog = _program() if prog is None else prog
    problems: list[str] = []
    accepted = list(argv)
    while isinstance(outcome := _try_parse(kind, accepted, prog, default), str):
        # An argument that is missing once a refused flag is gone, with all that followed it, most likely went with it.
        if not (problems and outcome.startswith("Missing")):
            problems.extend([outcome, *_misspelt(outcome, accepted)])
        # tyro reports one problem at a time, so what it refuses is removed until it has reported them all.
        before, accepted = accepted, _drop_refused_flags(accepted, outcome)
        if accepted == before:
            raise ConfigError(f"{'; '.join(problems)}; see --help")
    try:
        check(outcome)
    except ConfigError as error:
        problems.append(str(error))
        raise ConfigError("; ".join(problems)) from None
    if problems:
        raise ConfigError(f"{'; '.join(problems)}; see --help")
    return outcome


def _program() -> str:
    module = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python {shlex.quote(sys.argv[0])}" if module is None else f"python -m {module.name}"


def refuse_empty(argv: Sequence[str]) -> None:
    """Refuses an empty string, as from an unset shell variable: as a path, it would mean the working directory.

    Raises:
      ConfigError: an argument or the value of a flag is empty.
    """
    problems = []
    for before, argument in zip(["", *argv], argv, strict=False):
        if re.fullmatch(r"--[\w.-]+=", argument):
            problems.append(argument.removesuffix("="))
        elif not argument:
            problems.append(before if re.fullmatch(r"--[\w.-]+", before) else "an argument")
    if problems:
        raise ConfigError("; ".join(f"{name} is empty: give a value, or omit it" for name in problems))


class _NoTerminal:
    """A stream that denies being a terminal, in which tyro would print colours without regard to NO_COLOR."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return False


def _try_parse(kind: type[T], argv: Sequence[str], prog: str, default: T | None) -> T | str:
    """Parses arguments, or returns one line that says why they cannot be parsed."""
    messages = io.StringIO()
    screen = cast(TextIO, _NoTerminal(sys.stdout)) if os.environ.get("NO_COLOR") else sys.stdout
    try:
        with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(messages), convert_stdout_errors():
            if default is None:
                return tyro.cli(kind, prog=prog, args=list(argv), registry=RULES)
            return tyro.cli(kind, prog=prog, args=list(argv), default=default, registry=RULES)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        return _one_line(messages.getvalue())


def _misspelt(problem: str, argv: Sequence[str]) -> list[str]:
    """Names the given flags that resemble a missing one, which tyro reports before those that it does not know."""
    if not problem.startswith("Missing:"):
        return []
    missing = re.findall(r"--[\w.-]*\w", problem)
    given = [argument.partition("=")[0] for argument in argv if argument.startswith("--")]
    matches = {flag: difflib.get_close_matches(flag, missing, n=1, cutoff=0.8) for flag in given if flag not in missing}
    return [f"Unrecognized options: {flag} (did you mean {match[0]}?)" for flag, match in matches.items() if match]


def _drop_refused_flags(argv: Sequence[str], problem: str) -> list[str]:
    """Removes the flags that a problem names, with their values, from the arguments."""
    refused = set(re.findall(r"--[\w.-]*\w", problem.partition(" (did you mean")[0]))
    remaining, keep = [], True
    for argument in argv:
        if argument.startswith("--"):
            keep = argument.partition("=")[0] not in refused
        if keep:
            remaining.append(argument)
    return remaining


def _one_line(message: str) -> str:
    """Reduces tyro's framed message to its first sentences and the flag that it suggests."""
    unframed = [re.sub(r"[│╭╮╰╯]", "", line).rstrip() for line in message.splitlines()]
    # The frame's upper line holds the title or, of dashes where lines cannot be drawn, follows it.
    rules = [index for index, line in enumerate(unframed) if re.search(r"─|^ *-{5,}$", line)]
    start, end = (rules[0] + 1, rules[1]) if len(rules) > 1 else (0, None)
    body = textwrap.dedent("\n".join(unframed[start:end])).splitlines()
    if body and body[0].startswith("Missing from"):
        # Each name is indented by four spaces, and its help text by eight.
        return f"Missing: {', '.join(line.strip() for line in body if re.match(r' {4}(?! )', line))}"
    lines = [line.strip() for line in unframed]
    suggested = [line.split()[0] for line in lines if re.match(r"--\w", line)] if "Perhaps you meant:" in lines else []
    hint = f" (did you mean {suggested[0]}?)" if suggested else ""
    # For a value of several possible types, tyro appends the error of each type.
    text = " ".join(line.strip() for line in body)
    return f"{text.partition('.  Got errors:')[0].rstrip('.')}{hint}"
