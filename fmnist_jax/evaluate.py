"""Scores a trained model on one split: `python -m fmnist_jax.evaluate RUN`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fmnist_jax.commands import cli
from fmnist_jax.commands.arguments import parse_arguments
from fmnist_jax.config import paths
from fmnist_jax.data.places import DataPaths
from fmnist_jax.runs.directory import require_config
from fmnist_jax.system import backend


@dataclass(frozen=True)
class Arguments:
    """Scores a trained model on one split; prints tables, and writes them with figures to RUN/evaluation/<split>."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run directory written by fmnist_jax.train."""
    checkpoint: str = "latest"
    """latest, best (by validation accuracy), or the step of a checkpoint."""
    split: Literal["test", "validation", "train"] = "test"
    """Which images to score."""
    tta: Literal["none", "mirror"] = "none"
    """mirror: average the logits of each image and its mirror image."""
    data: DataPaths = field(default_factory=DataPaths)


def main(argv: Sequence[str], prog: str = "python -m fmnist_jax.evaluate") -> None:
    """Runs the command."""
    arguments = parse_arguments(Arguments, argv, prog)
    run = paths.expand_checked(arguments.run, "RUN")
    require_config(run)
    # JAX and matplotlib take seconds to import, so invalid arguments are refused first.
    backend.start()
    from fmnist_jax.commands import evaluation

    evaluation.run(run, arguments.checkpoint, arguments.split, arguments.tta, arguments.data)


if __name__ == "__main__":
    cli.run_command(main)
