"""How a module of the experiments is run as a command."""

import sys
from collections.abc import Callable
from typing import Any

import tyro

from fmnist_jax import FmnistError


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
