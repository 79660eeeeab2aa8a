"""How a module of the experiments is run as a command."""

import os
import sys
from collections.abc import Callable
from typing import Any

import tyro

from fmnist_jax import FmnistError


def start_jax(platforms: str) -> None:
    """Has JAX find its devices on these platforms, as `JAX_PLATFORMS` names them, in this process and those it starts.

    Raises:
      FmnistError: it cannot.
    """
    os.environ["JAX_PLATFORMS"] = platforms
    import jax  # which reads the variable

    jax.config.update("jax_platforms", platforms)  # where it had been imported before
    reason = ""
    try:
        # Of several, JAX passes over those that are not installed.
        missing = jax.default_backend() == "cpu" and not platforms.startswith("cpu")
    except (AssertionError, RuntimeError) as error:  # of one that is not installed the former, without a word
        missing, reason = True, str(error).partition("\n")[0]
    if missing:
        raise FmnistError(
            f"JAX has no device on {platforms} ({reason or 'it is not installed'}): give --device cpu, or bring that "
            "device and its JAX"
        )


def start(main: Callable[[Any], object], arguments: type) -> None:
    """Runs a module with the process's arguments; what the user can mend is one line on standard error.

    Args:
      main: of the module.
      arguments: the dataclass that it takes.
    """
    try:
        main(tyro.cli(arguments))
    except FmnistError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error
