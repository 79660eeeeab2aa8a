"""Writes the report of a run, or a comparison of several, as one HTML page: `python -m fmnist_jax.report RUN…`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fmnist_jax.commands import cli
from fmnist_jax.commands.arguments import parse_arguments
from fmnist_jax.config import paths
from fmnist_jax.data.places import DataPaths
from fmnist_jax.errors import ConfigError
from fmnist_jax.system import backend, output


@dataclass(frozen=True)
class Arguments:
    """Writes RUN/report.html, one self-contained page that works offline, for a run that has ended or not.

    For several runs, writes one page that compares them.
    """

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run directories written by fmnist_jax.train, or folders of them. The other runs are compared with the first."""
    out: Path | None = None
    """For several runs: the file to write. Default: comparison.html in the folder that contains them all."""
    data: DataPaths = field(default_factory=DataPaths)


def check(arguments: Arguments) -> None:
    """Checks what can be checked without reading a file.

    Raises:
      ConfigError: no run is named, or `--out` does not name an HTML file.
    """
    if not arguments.runs:
        raise ConfigError("RUN is missing: give a run directory, several, or a folder of them")
    if arguments.out is not None and arguments.out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out is {arguments.out}: give a file that ends in .html")


def main(argv: Sequence[str], prog: str = "python -m fmnist_jax.report") -> None:
    """Runs the command."""
    arguments = parse_arguments(Arguments, argv, prog, check=check)
    runs = find_runs([paths.expand_checked(run, "RUN") for run in arguments.runs])
    out = None if arguments.out is None else paths.expand_checked(arguments.out, "--out")
    if len(runs) == 1 and out is not None:
        raise ConfigError(
            f"--out is {out}, but the report of a single run is written to its directory, {runs[0]}: omit --out"
        )
    # JAX and matplotlib take seconds to import, so invalid arguments are refused first.
    backend.start()
    from fmnist_jax.commands import comparison, reporting

    if len(runs) == 1:
        cli.print_result(f"written: {reporting.run(runs[0], arguments.data)}")
    else:
        cli.print_result(f"written: {comparison.run(runs, arguments.data, out)}")


def find_runs(named: Sequence[Path]) -> list[Path]:
    """The named run directories and those in named folders, sorted by name within each folder; each once.

    In a folder, runs without a checkpoint, such as one stopped while compiling, are left out, with a note, unless none
    has a checkpoint.
    """
    runs: dict[str, Path] = {}
    skipped: list[Path] = []
    for path in named:
        inside = _runs_in(path)
        with_checkpoint = [run for run in inside if any(_checkpoint_names(run / "checkpoints"))]
        skipped.extend(run for run in inside if with_checkpoint and run not in with_checkpoint)
        for run in with_checkpoint or inside or [path]:
            runs.setdefault(os.path.realpath(run), run)
    for run in skipped:
        if os.path.realpath(run) not in runs:
            output.warn(f"note: {run} has no checkpoint yet and is left out")
    return list(runs.values())


def _runs_in(folder: Path) -> list[Path]:
    if os.access(folder / "config.json", os.F_OK):
        return []
    try:
        return sorted(path for path in folder.iterdir() if os.access(path / "config.json", os.F_OK))
    except OSError:  # missing or unreadable, which reading it as a run will report
        return []


def _checkpoint_names(folder: Path) -> list[str]:
    """The names of the checkpoints in a folder, if it exists."""
    try:
        return [path.name for path in folder.iterdir() if path.name.isdecimal()]
    except OSError:
        return []


if __name__ == "__main__":
    cli.run_command(main)
