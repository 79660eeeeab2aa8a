"""Trains a model and writes a run directory: `python -m fmnist_jax.train`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fmnist_jax.commands import cli
from fmnist_jax.commands.arguments import parse_arguments, refuse_empty
from fmnist_jax.config import paths
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.record import to_dict
from fmnist_jax.config.schema import Config, ParallelConfig
from fmnist_jax.config.validation import validate
from fmnist_jax.data import places
from fmnist_jax.errors import ConfigError
from fmnist_jax.runs import tensorboard_log
from fmnist_jax.runs.directory import read_config
from fmnist_jax.system import backend

if TYPE_CHECKING:
    from fmnist_jax.data.dataset import Splits  # imports JAX, which an invalid configuration need not wait for
    from fmnist_jax.functional.recipe import MakeRecipe


_FLAG_ALIASES: Mapping[str, str] = {"--init.from": "--init.source"}
"""Flags whose names cannot be Python field names, with the flags that stand in for them."""


@dataclass(frozen=True)
class Arguments:
    """Trains a model and writes a run directory."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    print_config: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the resolved configuration as JSON and exit."""


def run(config: Config, splits: "Splits | None" = None, *, make_recipe: "MakeRecipe | None" = None) -> dict[str, Any]:
    """Trains as configured, or resumes the run in `config.run.dir`.

    Args:
      config: the configuration of the run.
      splits: your own images, used instead of those that `config.data` names. Pass the same ones again to resume the
        run, and as `splits=` to `commands.reporting.run` and `commands.evaluation.run`.
      make_recipe: your own function in place of `fmnist_jax.make_recipe`, for another model, loss or step that returns
        `Metrics`. The configuration does not include it, so pass the same one again to resume the run, to start another
        run from it, and to `load_trained`; the commands refuse a run whose network differs from the configuration's.

    Returns:
      The contents of `summary.json`.

    Raises:
      FmnistError: for anything that the user can fix, raised before anything is compiled where possible.
    """
    if splits is not None:  # which set the limits, such as how many stages halve an image
        from fmnist_jax.data.resolution import with_splits

        config = with_splits(config, splits)
    validate(config)
    if config.run.tensorboard:
        tensorboard_log.refuse_without_writer()
    # JAX and the modules that use it take a second to import, so an invalid configuration is refused first.
    backend.start(lambda: _join_processes(config.parallel))
    from fmnist_jax.runs import loop

    return loop.run(config, splits) if make_recipe is None else loop.run(config, splits, make_recipe)


def _join_processes(parallel: ParallelConfig) -> None:
    if parallel.distributed:
        from fmnist_jax.runs import processes  # with JAX

        processes.join(parallel)


def parse_config(argv: Sequence[str], prog: str | None = None) -> Config:
    """Parses the arguments of `python -m fmnist_jax.train` into a configuration, in a script with parts of its own.

    Args:
      argv: the arguments, such as `["--preset", "fast", "--optim.peak-lr", "0.1"]`.
      prog: how the command is called, for the help; by default, as this process was.

    Raises:
      ConfigError: an argument is unknown or malformed, or the configuration is invalid.
      SystemExit: with code 0, after printing what `--help` or `--print-config` asks for.
    """
    arguments = parse(argv, prog)
    if arguments.print_config:
        cli.print_result(json.dumps(to_dict(arguments.config), indent=2))
        raise SystemExit(0)
    return arguments.config


def parse(argv: Sequence[str], prog: str | None = None) -> Arguments:
    """Parses arguments as changes to the preset or run that they name, and validates the result.

    Raises:
      ConfigError: an argument is unknown or malformed, or the configuration is invalid.
      SystemExit: with code 0, after printing the help that was asked for.
    """
    refuse_empty(argv)
    parts = [argument.partition("=") for argument in argv]
    argv = [f"{_FLAG_ALIASES.get(flag, flag)}{equals}{value}" for flag, equals, value in parts]
    default = Arguments(_base_config(argv))
    return parse_arguments(Arguments, argv, prog, default, check=lambda parsed: validate(parsed.config))


def _base_config(argv: Sequence[str]) -> Config:
    """The configuration that the arguments change: that of a preset, or of the run to resume."""
    preset, directory = _last_flag_value(argv, "--preset"), _last_flag_value(argv, "--run.dir")
    started = None if preset or not directory else read_config(paths.expand_checked(Path(directory), "--run.dir"))
    if started is not None:
        # The devices and processes may be others this time, and a profile is wanted only once.
        run = replace(started.run, profile=0)
        return replace(started, data=places.with_local_paths(started.data), parallel=ParallelConfig(), run=run)
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"--preset is {preset!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[preset or "standard"]


def _last_flag_value(argv: Sequence[str], flag: str) -> str | None:
    """Finds the last value of a flag, given as `--flag value` or `--flag=value`."""
    for index, argument in reversed(list(enumerate(argv))):
        name, equals, value = argument.partition("=")
        if name == flag:
            return value if equals else "".join(argv[index + 1 : index + 2])
    return None


def main(argv: Sequence[str], prog: str = "python -m fmnist_jax.train") -> None:
    """Runs the command."""
    run(parse_config(argv, prog))


if __name__ == "__main__":
    cli.run_command(main)
