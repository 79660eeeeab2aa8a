"""The command line: a configuration out of arguments, and errors as one line."""

import contextlib
import io
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fmnist_jax.allocator import keep_freed_memory
from fmnist_jax.config import Config
from fmnist_jax.errors import ConfigError, FmnistError
from fmnist_jax.presets import PRESETS
from fmnist_jax.runlog import RunDirectory
from fmnist_jax.validation import validate


@dataclass(frozen=True)
class Arguments:
    """Trains a model and writes a run directory."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    print_config: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the resolved configuration as JSON and exit."""


def parse(argv: Sequence[str], prog: str) -> Arguments:
    """Parses arguments over the values of the preset that they name, and validates the result.

    Raises:
      ConfigError: an argument is unknown or malformed, or the configuration is impossible.
      SystemExit: with code 0, after printing the help that was asked for.
    """
    default = _starting_point(argv)
    problems: list[str] = []
    accepted = list(argv)
    while isinstance(outcome := _attempt(accepted, prog, default), str):
        # tyro names one problem at a time, so what it refuses is taken out until it has named them all.
        problems.append(outcome)
        before, accepted = accepted, _without_refused(accepted, outcome)
        if accepted == before:
            raise ConfigError(f"{'; '.join(problems)}; see --help")
    try:
        validate(outcome.config)
    except ConfigError as error:
        problems.append(str(error))
        raise ConfigError("; ".join(problems)) from None
    if problems:
        raise ConfigError(f"{'; '.join(problems)}; see --help")
    return outcome


def _attempt(argv: Sequence[str], prog: str, default: Config) -> Arguments | str:
    """Parses arguments, or says in one line why they cannot be parsed."""
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(Arguments, prog=prog, args=list(argv), default=Arguments(default))
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        return _one_line(messages.getvalue())


def _without_refused(argv: Sequence[str], problem: str) -> list[str]:
    """Takes the flags that a problem names, with their values, out of the arguments."""
    refused = set(re.findall(r"--[\w.-]*\w", problem.partition(" (did you mean")[0]))
    kept, keep = [], True
    for argument in argv:
        if argument.startswith("--"):
            keep = argument.partition("=")[0] not in refused
        if keep:
            kept.append(argument)
    return kept


def run_command(command: Callable[[Sequence[str]], int | None]) -> None:
    """Runs a command with the process's arguments and exits; what the user can mend becomes one line."""
    # Without a handler of the run's own, an interrupt ends the process as it ends any other, with no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Orbax logs the tracebacks of errors that it also raises, and asyncio those of the writes that fail beside the
    # first; they are told here in one line.
    for logger in ("absl", "asyncio"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    sys.unraisablehook = _report
    _keep_executables()
    keep_freed_memory()
    try:
        sys.exit(command(sys.argv[1:]))
    except FmnistError as error:
        print(f"{error.label}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has gone; keep the interpreter from complaining while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _keep_executables() -> None:
    """Has JAX, not yet imported, keep what it compiles in the user's cache unless the environment says otherwise.

    The key of an executable covers the program, the options, the versions and the device.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or f"{os.environ.get('HOME', '')}/.cache")
    if os.access(cache if cache.exists() else cache.parent, os.W_OK):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "fmnist_jax" / "executables"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def _report(unraisable: "sys.UnraisableHookArgs") -> None:
    """Prints an error that could not be raised, unless it is TensorStore's, which goes on after Orbax has given up."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def _starting_point(argv: Sequence[str]) -> Config:
    """The values that the arguments change: a preset's, or those of the run that is to go on."""
    preset, directory = _value(argv, "--preset"), _value(argv, "--run.dir")
    if preset is None and directory is not None and (Path(directory) / "config.json").is_file():
        return RunDirectory(Path(directory)).read_config() or Config()
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"--preset is {preset!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[preset or "standard"]


def _value(argv: Sequence[str], flag: str) -> str | None:
    """Finds the last value of a flag, given as `--flag value` or `--flag=value`."""
    for index, argument in reversed(list(enumerate(argv))):
        name, equals, value = argument.partition("=")
        if name == flag:
            return value if equals else "".join(argv[index + 1 : index + 2])
    return None


def _one_line(box: str) -> str:
    """Reduces tyro's framed message to its first sentences and the flag that it suggests."""
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in box.splitlines()]
    rules = [index for index, line in enumerate(lines) if re.fullmatch(r"─+", line)]
    body = [line for line in lines[: rules[0] if rules else None] if "─" not in line]
    suggested = [line.split()[0] for line in lines if line.startswith("--")] if "Perhaps you meant:" in lines else []
    hint = f" (did you mean {suggested[0]}?)" if suggested else ""
    return f"{' '.join(body)}{hint}"
