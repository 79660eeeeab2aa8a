"""Writes a trained model as files that run without this package: `python -m fmnist_jax.export RUN OUT`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fmnist_jax.commands import cli, formats
from fmnist_jax.commands.arguments import parse_arguments
from fmnist_jax.commands.formats import Format
from fmnist_jax.config import paths
from fmnist_jax.data.places import DataPaths
from fmnist_jax.runs.directory import require_config
from fmnist_jax.system import backend
from fmnist_jax.system.staging import refuse_taken


@dataclass(frozen=True)
class Arguments:
    """Writes a trained model to OUT as files that run without this package, with a model card, README.md."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run directory written by fmnist_jax.train."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Directory to create."""
    formats: tuple[Format, ...] = ()
    """jaxexport: a program for JAX on CPU, GPU and TPU. safetensors: the weights by name. onnx: a graph for ONNX
    Runtime and others. Default: all whose packages are installed."""
    checkpoint: str = "latest"
    """latest, best (by validation accuracy), or the step of a checkpoint."""
    data: DataPaths = field(default_factory=DataPaths)


def main(argv: Sequence[str], prog: str = "python -m fmnist_jax.export") -> None:
    """Runs the command."""
    arguments = parse_arguments(Arguments, argv, prog)
    run, out = paths.expand_checked(arguments.run, "RUN"), paths.expand_checked(arguments.out, "OUT")
    choice = formats.choose(arguments.formats)
    refuse_taken(out, "OUT")
    require_config(run)
    # JAX takes seconds to import, so invalid arguments are refused first.
    backend.start()
    from fmnist_jax.commands import exporting

    written = exporting.run(run, out, choice.formats, arguments.checkpoint, arguments.data)
    cli.print_result(
        "\n".join([f"written: {out}/{', '.join(written)}", *(f"left out: {line}" for line in choice.left_out)])
    )


if __name__ == "__main__":
    cli.run_command(main)
