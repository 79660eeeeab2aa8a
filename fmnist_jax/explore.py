"""Describes a data set in tables and pictures: `python -m fmnist_jax.explore`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fmnist_jax.commands import cli
from fmnist_jax.commands.arguments import parse_arguments
from fmnist_jax.config import paths
from fmnist_jax.config.schema import DataConfig
from fmnist_jax.config.validation import validate_data
from fmnist_jax.system import backend
from fmnist_jax.system.storage import check_writable


@dataclass(frozen=True)
class Arguments:
    """Describes a data set: sizes, value ranges, classes, copies; pictures of samples, averages, augmentations."""

    data: DataConfig = field(default_factory=DataConfig)
    out: Path | None = None
    """Directory for exploration.json and the pictures. Default: exploration/<data.name>."""


def main(argv: Sequence[str], prog: str = "python -m fmnist_jax.explore") -> None:
    """Runs the command."""
    arguments = parse_arguments(Arguments, argv, prog, check=lambda parsed: validate_data(parsed.data))
    run(arguments.data, arguments.out or Path("exploration") / arguments.data.name)


def run(config: DataConfig, out: Path) -> None:
    """Prints a description of a data set, and writes it to files, with pictures.

    Args:
      config: which data set, and how it is split.
      out: directory to write to, created if missing.

    Raises:
      FmnistError: the data are unavailable, or `out` cannot be written to.
    """
    out = paths.expand_checked(out, "--out")
    check_writable(out.absolute(), "--out")
    # JAX and matplotlib take seconds to import, so unusable paths are refused first.
    backend.start()
    from fmnist_jax.commands import exploration

    exploration.run(config, out)


if __name__ == "__main__":
    cli.run_command(main)
