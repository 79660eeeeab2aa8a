"""What the commands share: printing results, progress and one-line errors."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from fmnist_jax.commands.executables import enable_compilation_cache, explain_damaged_cache
from fmnist_jax.errors import FmnistError, out_of_memory
from fmnist_jax.system import output
from fmnist_jax.system.allocator import keep_freed_memory
from fmnist_jax.system.signals import install_exit_handlers
from fmnist_jax.system.storage import error_reason, error_remedy

_SIGPIPE_EXIT_CODE = 128 + 13  # what a shell reports for a program ended by SIGPIPE, as `| head` ends most
_MIN_WIDTH = 72  # columns; in fewer, a table would leave out cell contents
_UNLIMITED_WIDTH = 10_000  # columns; wider than any table
_MIN_BAR_ITEMS = 10  # items, such as pictures; fewer are done too soon to need a bar


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raises what `run_command` handles, where rich would end the process."""
        raise BrokenPipeError


def print_result(text: str) -> None:
    """Prints a command's result.

    Raises:
      FmnistError: it cannot be printed.
      BrokenPipeError: its reader has gone; `run_command` handles this.
    """
    with convert_stdout_errors():
        print(text, flush=True)


def print_rich(parts: Iterable[str | Table]) -> None:
    """Prints texts in rich's markup, unwrapped, and tables as wide as the terminal; raises as `print_result` does.

    In a terminal too narrow for the contents of their columns, tables are wider than it. In a file or a pipe, they are
    as wide as their contents, unless the environment sets COLUMNS.
    """
    bounded = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = _Console(highlight=False, width=None if bounded else _UNLIMITED_WIDTH)
    console.width = max(console.width, _MIN_WIDTH)
    for part in parts:
        with convert_stdout_errors():
            console.print(part, soft_wrap=isinstance(part, str))


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """Shows a progress bar, unless the total is small; each call of the yielded function advances it by one.

    It is shown on standard error, if that is a terminal, below what is printed there meanwhile, and removed at the end.
    """
    screen = output.BestEffortStream(sys.stderr)
    console = Console(file=cast(TextIO, screen))
    if total < _MIN_BAR_ITEMS or not screen.isatty() or console.is_dumb_terminal:
        yield lambda: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        console.show_cursor()  # a process that is killed meanwhile could not show it again
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def convert_stdout_errors() -> Iterator[None]:
    """Makes an error of writing to standard output one that the user can fix; a reader that has gone stays one."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _stdout_error(error) from error


def run_command(command: Callable[[Sequence[str]], int | None]) -> None:
    """Runs a command with the process's arguments and exits; an error that the user can fix becomes one line.

    For scripts as well as for this package's commands: it also ends on signals with their usual exit codes, and keeps
    compiled programs for the next process.

    Args:
      command: takes the arguments, and returns an exit code or None for 0.
    """
    output.open_standard_streams()
    install_exit_handlers()
    # Orbax logs the tracebacks of errors that it also raises, and asyncio those of further writes that fail; here, one
    # line reports them.
    for logger in ("absl", "asyncio"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    sys.unraisablehook = _unraisable_hook
    enable_compilation_cache()
    explain_damaged_cache()
    keep_freed_memory()
    code = _exit_code(command)
    problem = output.final_flush(sys.stdout)
    if problem is not None and not code:
        code = _SIGPIPE_EXIT_CODE if isinstance(problem, BrokenPipeError) else _report_error(_stdout_error(problem))
    output.final_flush(sys.stderr)
    sys.exit(code)


def _exit_code(command: Callable[[Sequence[str]], int | None]) -> int | str | None:
    try:
        _refuse_deleted_directory()
        return command(sys.argv[1:])
    except FmnistError as error:
        return _report_error(error)
    except BrokenPipeError:
        return _SIGPIPE_EXIT_CODE
    except SystemExit as stop:
        return stop.code
    except Exception as error:
        if (problem := out_of_memory(error, "free it of other processes, or set JAX_PLATFORMS=cpu")) is None:
            raise
        return _report_error(problem)


def _report_error(error: FmnistError) -> int:
    output.warn(error.line)
    return error.exit_code


def _stdout_error(error: OSError) -> FmnistError:
    return FmnistError(
        f"standard output cannot be written ({error_reason(error)}): {error_remedy(error)}, or redirect it elsewhere"
    )


def _refuse_deleted_directory() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise FmnistError(
            f"the working directory cannot be found ({error_reason(error)}): cd to one that exists"
        ) from error


def _unraisable_hook(unraisable: "sys.UnraisableHookArgs") -> None:
    """Prints an unraisable error, unless it is TensorStore's, which keeps working after Orbax has given up."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)
