"""What the commands share: parsing arguments into a dataclass, and printing results, progress and one-line errors."""

import contextlib
import io
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeVar, cast

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from fmnist_jax.commands.executables import keep_executables
from fmnist_jax.commands.flags import RULES
from fmnist_jax.errors import ConfigError, DeviceMemoryError, FmnistError
from fmnist_jax.system import output
from fmnist_jax.system.allocator import keep_freed_memory
from fmnist_jax.system.signals import end_on_signals
from fmnist_jax.system.storage import reason, remedy

T = TypeVar("T")

_READER_GONE = 128 + 13  # what a shell reports for a program ended by SIGPIPE, as `| head` ends most
_NARROWEST = 72  # columns; in fewer, a table would leave out cell contents
_UNBOUNDED = 10_000  # columns; wider than any table
_MANY = 10  # items, such as pictures; fewer are done too soon to need a bar


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
    while isinstance(outcome := _attempt(kind, accepted, prog, default), str):
        # An argument that is missing once a refused flag is gone, with all that followed it, most likely went with it.
        if not (problems and outcome.startswith("Missing")):
            problems.append(outcome)
        # tyro reports one problem at a time, so what it refuses is removed until it has reported them all.
        before, accepted = accepted, _without_refused(accepted, outcome)
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


def _attempt(kind: type[T], argv: Sequence[str], prog: str, default: T | None) -> T | str:
    """Parses arguments, or returns one line that says why they cannot be parsed."""
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages), _printing():
            if default is None:
                return tyro.cli(kind, prog=prog, args=list(argv), registry=RULES)
            return tyro.cli(kind, prog=prog, args=list(argv), default=default, registry=RULES)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        return _one_line(messages.getvalue())


def _without_refused(argv: Sequence[str], problem: str) -> list[str]:
    """Removes the flags that a problem names, with their values, from the arguments."""
    refused = set(re.findall(r"--[\w.-]*\w", problem.partition(" (did you mean")[0]))
    kept, keep = [], True
    for argument in argv:
        if argument.startswith("--"):
            keep = argument.partition("=")[0] not in refused
        if keep:
            kept.append(argument)
    return kept


def _one_line(box: str) -> str:
    """Reduces tyro's framed message to its first sentences and the flag that it suggests."""
    framed = [re.sub(r"[│╭╮╰╯]", "", line).rstrip() for line in box.splitlines()]
    lines = [line.strip() for line in framed]
    rules = [index for index, line in enumerate(lines) if re.fullmatch(r"─+", line)]
    body = [line for line in lines[: rules[0] if rules else None] if "─" not in line]
    if body and body[0].startswith("Missing from"):
        # In the frame, each name is indented by four spaces, and its help text by eight.
        return f"Missing: {', '.join(line.strip() for line in framed[: rules[0]] if re.match(r' {5}(?! )', line))}"
    suggested = [line.split()[0] for line in lines if line.startswith("--")] if "Perhaps you meant:" in lines else []
    hint = f" (did you mean {suggested[0]}?)" if suggested else ""
    # For a value of several possible types, tyro appends the error of each type.
    return f"{' '.join(body).partition('.  Got errors:')[0]}{hint}"


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """Raises what `run_command` handles, where rich would end the process."""
        raise BrokenPipeError


def tell(text: str) -> None:
    """Prints a command's result.

    Raises:
      FmnistError: it cannot be printed.
      BrokenPipeError: its reader has gone; `run_command` handles this.
    """
    with _printing():
        print(text, flush=True)


def show(parts: Iterable[str | Table]) -> None:
    """Prints texts in rich's markup, without wrapping, and tables as wide as the terminal; raises as `tell` does.

    In a terminal too narrow for the contents of their columns, tables are wider than it. In a file or a pipe, they are
    as wide as their contents, unless the environment sets COLUMNS.
    """
    bounded = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = _Screen(highlight=False, width=None if bounded else _UNBOUNDED)
    console.width = max(console.width, _NARROWEST)
    for part in parts:
        with _printing():
            console.print(part, soft_wrap=isinstance(part, str))


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """Shows a progress bar, unless the total is small; each call of the yielded function advances it by one.

    It is shown on standard error, if that is a terminal, below what is printed there meanwhile, and removed at the end.
    """
    screen = output.Unfailing(sys.stderr)
    console = Console(file=cast(TextIO, screen))
    if total < _MANY or not screen.isatty() or console.is_dumb_terminal:
        yield lambda: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        console.show_cursor()  # a process that is killed meanwhile could not show it again
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unprinted(error) from error


def run_command(command: Callable[[Sequence[str]], int | None]) -> None:
    """Runs a command with the process's arguments and exits; an error that the user can fix becomes one line.

    For scripts as well as for this package's commands: it also ends on signals with their usual exit codes, and keeps
    compiled programs for the next process.

    Args:
      command: takes the arguments, and returns an exit code or None for 0.
    """
    output.open_standard_streams()
    end_on_signals()
    # Orbax logs the tracebacks of errors that it also raises, and asyncio those of further writes that fail; here, one
    # line reports them.
    for logger in ("absl", "asyncio"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    sys.unraisablehook = _report
    keep_executables()
    keep_freed_memory()
    code = _exit_code(command)
    problem = output.let_go(sys.stdout)
    if problem is not None and not code:
        code = _READER_GONE if isinstance(problem, BrokenPipeError) else _told(_unprinted(problem))
    output.let_go(sys.stderr)
    sys.exit(code)


def _exit_code(command: Callable[[Sequence[str]], int | None]) -> int | str | None:
    try:
        _refuse_deleted_directory()
        return command(sys.argv[1:])
    except FmnistError as error:
        return _told(error)
    except BrokenPipeError:
        return _READER_GONE
    except SystemExit as stop:
        return stop.code
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error):  # the status of XLA's out-of-memory errors
            raise
        remedy = "free it of other processes, or set JAX_PLATFORMS=cpu"
        return _told(DeviceMemoryError(f"the device is out of memory: {remedy}"))


def _told(error: FmnistError) -> int:
    output.warn(f"{error.label}: {error}")
    return error.exit_code


def _unprinted(error: OSError) -> FmnistError:
    return FmnistError(
        f"standard output cannot be written ({reason(error)}): {remedy(error)}, or redirect it elsewhere"
    )


def _refuse_deleted_directory() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise FmnistError(f"the working directory cannot be found ({reason(error)}): cd to one that exists") from error


def _report(unraisable: "sys.UnraisableHookArgs") -> None:
    """Prints an unraisable error, unless it is TensorStore's, which keeps working after Orbax has given up."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)
