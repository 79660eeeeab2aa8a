"""Runs a module of the experiments as a command."""

import dataclasses
import os
import sys
from collections.abc import Callable, Collection
from typing import Any

from fmnist_jax import FmnistError, parse_arguments

_SIGPIPE_EXIT_CODE = 141


def start_jax(platforms: str) -> None:
    """Has JAX use these platforms, named as in `JAX_PLATFORMS`, in this process and those it starts.

    Raises:
      FmnistError: JAX finds no device on them.
    """
    os.environ["JAX_PLATFORMS"] = platforms
    import jax  # which reads the variable on import

    jax.config.update("jax_platforms", platforms)  # in case it was imported before
    reason = ""
    try:
        # Of several platforms, JAX skips those that are not installed.
        missing = jax.default_backend() == "cpu" and not platforms.startswith("cpu")
    except (AssertionError, RuntimeError) as error:  # the former, without a message, if it is not installed
        missing, reason = True, str(error).partition("\n")[0]
    if missing:
        raise FmnistError(
            f"JAX has no device on {platforms} ({reason or 'it is not installed'}): use --device cpu, or add "
            "that device and install JAX for it"
        )


def refuse_too_few(arguments: Any, optional: Collection[str] = ()) -> None:
    """Checks the whole numbers of a dataclass, all of which count something, and its lists of values to try.

    Args:
      arguments: those of an experiment.
      optional: the lists that may be empty.

    Raises:
      FmnistError: a number is less than 1, or a list is empty.
    """
    for field in dataclasses.fields(arguments):
        flag, value = f"--{field.name.replace('_', '-')}", getattr(arguments, field.name)
        if value == () and field.name not in optional:
            raise FmnistError(f"{flag} is empty: give at least one value")
        for number in value if isinstance(value, tuple) else (value,):
            if type(number) is int and number < 1:
                raise FmnistError(f"{flag} is {number}: choose 1 or more")


def run_script(main: Callable[[Any], object], arguments: type) -> None:
    """Runs a module with the process's arguments; an error that the user can fix is one line on standard error.

    Args:
      main: the module's main function.
      arguments: the dataclass that it takes.
    """
    try:
        main(parse_arguments(arguments, sys.argv[1:]))
        sys.stdout.flush()
    except FmnistError as error:
        print(error.line, file=sys.stderr)
        raise SystemExit(error.exit_code) from error
    except BrokenPipeError as error:  # the reader, such as `head`, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it as it ends
        raise SystemExit(_SIGPIPE_EXIT_CODE) from error
