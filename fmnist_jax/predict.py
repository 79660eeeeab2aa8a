"""Classifies pictures with a trained model: `python -m fmnist_jax.predict RUN IMAGE…`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fmnist_jax.commands import cli
from fmnist_jax.commands.arguments import parse_arguments
from fmnist_jax.config import paths
from fmnist_jax.errors import ConfigError
from fmnist_jax.runs.directory import require_config
from fmnist_jax.system import backend
from fmnist_jax.system.storage import check_file

_STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True)
class Arguments:
    """Classifies photos or drawings of garments with a trained model.

    Each picture should show one garment on a background of other colours. A network trained on anything but grey
    garments of 28x28 pixels sees the middle of each picture, shrunk, neither cut out nor inverted.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run directory written by fmnist_jax.train."""
    images: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="IMAGE...")]
    """PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF, HEIC files; directories of them; quoted patterns; - for standard input."""
    checkpoint: str = "latest"
    """latest, best (by validation accuracy), or the step of a checkpoint."""
    tta: Literal["none", "mirror"] = "none"
    """mirror: average the logits of each image and its mirror image."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON document instead of a table."""
    csv: Path | None = None
    """CSV file to write, a row for each picture; - prints the rows instead of a table."""
    show: Path | None = None
    """PNG or HTML file to write, which shows each picture beside what the network saw of it."""


def check(arguments: Arguments) -> None:
    """Checks what can be checked without reading a picture or a checkpoint.

    Raises:
      ConfigError: no picture is named, `--show` names neither a PNG nor an HTML file, or both JSON and CSV would be
        printed.
    """
    if not arguments.images:
        raise ConfigError("IMAGE is missing: give a picture, a directory of pictures, or - for standard input")
    if arguments.show is not None and arguments.show.suffix.lower() not in (".png", ".html"):
        raise ConfigError(f"--show is {arguments.show}: give a file that ends in .png or .html")
    if arguments.json and arguments.csv == _STANDARD_OUTPUT:
        raise ConfigError("--csv is -, but --json is printed as well: give a file for --csv")


def main(argv: Sequence[str], prog: str = "python -m fmnist_jax.predict") -> int:
    """Runs the command and returns its exit code: 2 if a picture was skipped, else 0."""
    arguments = parse_arguments(Arguments, argv, prog, check=check)
    run = paths.expand_checked(arguments.run, "RUN")
    show_path = _output_path(arguments.show, "--show")
    csv_path = None if arguments.csv == _STANDARD_OUTPUT else _output_path(arguments.csv, "--csv")
    require_config(run)
    # JAX takes seconds to import, so invalid arguments are refused first.
    backend.start()
    from fmnist_jax.commands import answers, prediction

    written = {"--show": show_path, "--csv": csv_path}
    report = prediction.run(
        run,
        arguments.images,
        arguments.checkpoint,
        arguments.tta,
        max_previews=answers.max_previews(show_path),
        written=written,
    )
    if show_path is not None:
        answers.write_previews(show_path, report)
    if csv_path is not None:
        answers.write_csv(csv_path, report)
    if arguments.json:
        cli.print_result(answers.to_json(report))
    elif arguments.csv == _STANDARD_OUTPUT:
        cli.print_result(answers.to_csv(report).removesuffix("\n"))
    else:
        answers.print_table(report)
    return 2 if report.skipped else 0


def _output_path(path: Path | None, flag: str) -> Path | None:
    """Expands the path of an output file, if one is named, and checks that it can be written.

    Raises:
      FmnistError: it cannot.
    """
    if path is None:
        return None
    path = paths.expand_checked(path, flag)
    check_file(path, flag)
    return path


if __name__ == "__main__":
    cli.run_command(main)
