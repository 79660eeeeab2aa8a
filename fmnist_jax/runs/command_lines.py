"""The command lines that a run prints: how to resume it, and what to train next."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

from fmnist_jax.config.schema import Config, DataConfig, ParallelConfig
from fmnist_jax.data import places
from fmnist_jax.errors import DataError
from fmnist_jax.system import environment


def how_to_resume(config: Config, started: Config | None = None, custom_recipe: str | None = None) -> str:
    """Says how to resume a stopped run.

    Args:
      config: the configuration of this start of the run.
      started: the one that the run directory records, with which a command line begins.
      custom_recipe: the name of the function that composed the run, if not the package's.
    """
    splits = ["splits"] if config.data.name == "own" else []
    recipe = [] if custom_recipe is None else [f"make_recipe={custom_recipe}"]
    if given := [*splits, *recipe]:
        same = " and the same splits" if splits else ""
        return f"fmnist_jax.run(config, {', '.join(given)}), with run.dir {config.run.dir}{same}"
    flags = ["--run.dir", str(config.run.dir)]
    flags += _changed_flags("data", _found_data(started), config.data, ("name", "dir", "raw_dir", "file"))
    # A command line that names a run begins with the usual devices and processes.
    flags += _changed_flags(
        "parallel", ParallelConfig(), config.parallel, [each.name for each in fields(ParallelConfig)]
    )
    return f"{environment.python_command()} -m fmnist_jax.train {shlex.join(flags)}"


def next_run(preset_and_flags: str, data: DataConfig) -> str:
    """The command that trains a preset, perhaps with flags, on the images that were found."""
    command = f"{environment.python_command()} -m fmnist_jax.train --preset {preset_and_flags}"
    if data.name != "fashion_mnist":
        return command
    located = replace(data, dir=data.dir and data.dir.absolute())
    return " ".join([command, *map(shlex.quote, _changed_flags("data", _found_data(None), located, ("dir",)))])


def _found_data(started: Config | None) -> DataConfig:
    """Where a command line that names the run, or none, looks for its images."""
    found = DataConfig() if started is None else places.with_local_paths(started.data)
    if found.name != "fashion_mnist":
        return found
    with suppress(DataError):  # there is no such place
        found = replace(found, dir=places.data_dir(found))
    return found


def _changed_flags(section: str, before: Any, now: Any, names: Sequence[str]) -> Iterator[str]:
    """Yields the flags, and values, that change some fields of a section of the configuration."""
    for name in names:
        value = getattr(now, name)
        if value is None or value == getattr(before, name):
            continue
        yield f"--{section}.{name.replace('_', '-')}"
        if value is not True:
            yield str(value)
