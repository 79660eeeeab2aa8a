"""Trains a model and writes a run directory: `python -m fmnist_jax.train`."""

import json
from collections.abc import Sequence
from typing import Any

from fmnist_jax import cli
from fmnist_jax.config import Config, to_dict
from fmnist_jax.validation import validate


def run(config: Config) -> dict[str, Any]:
    """Trains as configured, or goes on with the run in `config.run.dir`.

    Returns:
      The contents of `summary.json`.

    Raises:
      FmnistError: whatever the user can mend, before anything is compiled where that can be known.
    """
    validate(config)
    # JAX and what builds on it take a second to import, which a refused configuration need not wait for.
    from fmnist_jax import training

    return training.run(config)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    arguments = cli.parse(argv, prog="python -m fmnist_jax.train")
    if arguments.print_config:
        print(json.dumps(to_dict(arguments.config), indent=2))
        return
    run(arguments.config)


if __name__ == "__main__":
    cli.run_command(main)
