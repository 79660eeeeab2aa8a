"""Describes a data set in tables and pictures: `python -m fmnist_jax.explore`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fmnist_jax.commands import cli
from fmnist_jax.config import paths
from fmnist_jax.config.schema import DataConfig
from fmnist_jax.config.validation import validate_data
from fmnist_jax.system import backend
from fmnist_jax.system.storage import check_writable


@dataclass(frozen=True)
class Arguments:
    """Describes a data set: sizes, ranges, classes, copies; samples, averages, augmentations."""

    data: DataConfig = field(default_factory=DataConfig)
    out: Path | None = None
    """Directory to write exploration.json and the pictures into. Default: exploration/<data.name>."""


def main(argv: Sequence[str], prog: str = "python -m fmnist_jax.explore") -> None:
    """Runs the command."""
    arguments = cli.parse_arguments(Arguments, argv, prog, check=lambda parsed: validate_data(parsed.data))
    run(arguments.data, arguments.out or Path("exploration") / arguments.data.name)


def run(config: DataConfig, out: Path) -> None:
    """Prints what a data set holds, and writes it with pictures.

    Args:
      config: which data set, and how it is split.
      out: directory to write into, made if missing.

    Raises:
      FmnistError: the data are not to be had, or nothing can be written.
    """
    out = paths.local(out, "--out")
    check_writable(out.absolute(), "--out")
    # JAX and matplotlib take seconds to import, which refused arguments need not wait for.
    backend.start()
    from fmnist_jax.commands import exploration

    exploration.run(config, out)


if __name__ == "__main__":
    cli.run_command(main)
