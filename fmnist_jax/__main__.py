"""Lists the commands, or runs the named one: `python -m fmnist_jax [COMMAND]` or, once installed, `fmnist-jax`."""

import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from fmnist_jax.commands import cli
from fmnist_jax.errors import ConfigError

COMMANDS: Mapping[str, str] = {
    "train": "train a model and write a run directory",
    "evaluate": "score a trained model on one split: tables, predictions, figures",
    "predict": "classify your own pictures with a trained model",
    "explore": "describe a data set: sizes, classes, copies, samples, averages, augmentations",
    "report": "write a run's report, or compare several runs, on one HTML page",
    "export": "write a trained model as files that run without this package",
}
"""What each command does, by its name, which is also the name of its module."""


def main(argv: Sequence[str], prog: str = "python -m fmnist_jax") -> int | None:
    """Runs the command named by the first argument with the remaining ones, and returns its exit code.

    Raises:
      ConfigError: there is no such command.
    """
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help"):
        cli.print_result(usage(prog))
        return 0
    if name == "--version":
        cli.print_result(f"fmnist_jax {_version()}")
        return 0
    if name not in COMMANDS:
        matches = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {matches[0]}?" if matches else f"choose one of {', '.join(COMMANDS)}"
        raise ConfigError(f"{name!r} is not a command of {prog}: {hint}")
    # Only the module of this command, so that a help text does not wait for what the others import.
    command = importlib.import_module(f"fmnist_jax.{name}")
    return command.main(argv[1:], prog=f"{prog} {name}")


def usage(prog: str) -> str:
    """The usage text, with a line for each command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [f"usage: {prog} COMMAND [ARGUMENTS]", "", *lines, "", f"{prog} COMMAND --help lists its arguments."]
    )


def run() -> None:
    """Runs the command line of the process; the console script starts here."""
    as_module = Path(sys.argv[0]).name == "__main__.py"
    prog = "python -m fmnist_jax" if as_module else "fmnist-jax"
    cli.run_command(lambda argv: main(argv, prog))


def _version() -> str:
    try:
        return metadata.version("fmnist_jax")
    except metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    run()
