"""Says what a trained model takes pictures for: `python -m fmnist_jax.predict RUN IMAGE…`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fmnist_jax.commands import cli
from fmnist_jax.config import paths
from fmnist_jax.errors import ConfigError, FmnistError
from fmnist_jax.runs.directory import read_config
from fmnist_jax.system import backend
from fmnist_jax.system.storage import check_writable


@dataclass(frozen=True)
class Arguments:
    """Says what a trained model takes photos or drawings of garments for.

    Each picture should show one garment on a plain background, light or dark. A network of other images than 28x28 grey
    ones sees the middle of each picture, shrunk, as it is.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run directory that fmnist_jax.train has written."""
    images: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="IMAGE...")]
    """PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF, HEIC files; directories of them; quoted patterns; - for standard input."""
    checkpoint: str = "latest"
    """latest, best (by validation accuracy), or the step of a checkpoint."""
    tta: Literal["none", "mirror"] = "none"
    """mirror: average the logits of each image and its mirror image."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON document instead of a table."""
    show: Path | None = None
    """PNG file to write: each picture beside what the network saw of it."""


def check(arguments: Arguments) -> None:
    """Checks what can be checked without reading a picture or a checkpoint.

    Raises:
      ConfigError: no picture is named, or the sheet cannot be a PNG file.
    """
    if not arguments.images:
        raise ConfigError("IMAGE is missing: name a picture, a directory of pictures, or - for standard input")
    if arguments.show is not None and arguments.show.suffix.lower() != ".png":
        raise ConfigError(f"--show is {arguments.show}: name a file that ends in .png")


def main(argv: Sequence[str], prog: str = "python -m fmnist_jax.predict") -> int:
    """Runs the command and returns its exit code: 2 if a picture was left out, else 0."""
    arguments = cli.parse_arguments(Arguments, argv, prog, check=check)
    run = paths.local(arguments.run, "RUN")
    sheet = None if arguments.show is None else paths.local(arguments.show, "--show")
    if sheet is not None:
        check_writable(sheet.absolute().parent, "--show")
        if sheet.is_dir():
            raise FmnistError(f"{sheet} is a directory: name a file for --show")
    if read_config(run) is None:
        raise FmnistError(f"{run} has no config.json: name a run directory, as fmnist_jax.train has written")
    # JAX takes seconds to import, which refused arguments need not wait for.
    backend.start()
    from fmnist_jax.commands import prediction

    report = prediction.run(run, arguments.images, arguments.checkpoint, arguments.tta, sheet)
    if arguments.json:
        cli.tell(prediction.to_json(report))
    else:
        prediction.print_table(report)
    return 2 if report.skipped else 0


if __name__ == "__main__":
    cli.run_command(main)
