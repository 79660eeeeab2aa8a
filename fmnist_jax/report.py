"""Writes a run's report, one page of HTML: `python -m fmnist_jax.report RUN`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fmnist_jax.commands import cli
from fmnist_jax.config import paths
from fmnist_jax.data.places import Places
from fmnist_jax.system import backend


@dataclass(frozen=True)
class Arguments:
    """Writes RUN/report.html: one page that needs no other file and no network, of a run that has ended or not yet."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run directory that fmnist_jax.train has written."""
    data: Places = field(default_factory=Places)


def main(argv: Sequence[str], prog: str = "python -m fmnist_jax.report") -> None:
    """Runs the command."""
    arguments = cli.parse_arguments(Arguments, argv, prog)
    run = paths.local(arguments.run, "RUN")
    # JAX and matplotlib take seconds to import, which refused arguments need not wait for.
    backend.start()
    from fmnist_jax.commands import reporting

    cli.tell(f"written: {reporting.run(run, arguments.data)}")


if __name__ == "__main__":
    cli.run_command(main)
