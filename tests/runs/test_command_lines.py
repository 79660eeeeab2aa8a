"""The commands that a run prints, which must do as they say when they are pasted."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from fmnist_jax import train
from fmnist_jax.config.schema import Config, DataConfig, ParallelConfig, RunConfig
from fmnist_jax.runs.command_lines import how_to_resume, next_run
from fmnist_jax.system.environment import python_command


def test_how_to_resume_is_a_command_or_a_python_call_for_own_data_or_recipes() -> None:
    config = Config(run=RunConfig(dir=Path("my runs/1")))
    assert how_to_resume(config) == f"{python_command()} -m fmnist_jax.train --run.dir 'my runs/1'"
    own_data = replace(config, data=DataConfig(name="own", total=9))
    assert how_to_resume(own_data) == "fmnist_jax.run(config, splits), with run.dir my runs/1 and the same splits"
    own_recipe = how_to_resume(config, custom_recipe="mine")
    assert own_recipe == "fmnist_jax.run(config, make_recipe=mine), with run.dir my runs/1"


def test_how_to_resume_has_the_flags_that_the_run_directory_does_not_record(monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunConfig(dir=Path("r"))
    started = Config(data=DataConfig(dir=Path("/old")), run=run)
    parallel = ParallelConfig(devices=2, distributed=True, coordinator="host:1", processes=2, process_id=0)
    config = replace(started, data=replace(started.data, dir=Path("/new data")), parallel=parallel)
    assert how_to_resume(config, started).endswith(
        " --run.dir r --data.dir '/new data' --parallel.devices 2 --parallel.distributed "
        "--parallel.coordinator host:1 --parallel.processes 2 --parallel.process-id 0"
    )
    monkeypatch.setenv("FMNIST_DATA_DIR", "/new data")
    assert how_to_resume(replace(config, parallel=ParallelConfig()), config).endswith(" --run.dir r")


def test_how_to_resume_names_the_data_that_the_command_would_not_find(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "fashion_mnist").mkdir()
    here = Config(data=DataConfig(dir=tmp_path), run=RunConfig(dir=Path("r")))
    monkeypatch.delenv("FMNIST_DATA_DIR", raising=False)
    assert how_to_resume(here, here).endswith(" --run.dir r")
    assert how_to_resume(here, None).endswith(f" --run.dir r --data.dir {tmp_path}")  # of another process
    on_npz = Config(data=DataConfig(name="npz", file=Path("/x.npz")), run=RunConfig(dir=Path("r")))
    assert how_to_resume(on_npz, on_npz).endswith(" --run.dir r")
    command = how_to_resume(on_npz, None)  # of a process whose machine has no run directory
    assert train.parse(shlex.split(command.partition("fmnist_jax.train ")[2])).config.data == on_npz.data
    monkeypatch.setenv("FMNIST_DATA_DIR", "/elsewhere")
    assert how_to_resume(here, here).endswith(f" --run.dir r --data.dir {tmp_path}")


def test_next_command_finds_the_images_where_this_one_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMNIST_DATA_DIR", str(tmp_path / "usual"))

    assert next_run("standard", DataConfig(dir=tmp_path / "my data")).endswith(
        f" --preset standard --data.dir '{tmp_path}/my data'"
    )
    assert next_run("standard", DataConfig(dir=tmp_path / "usual")).endswith(" --preset standard")
    assert next_run("standard", DataConfig()).endswith(" --preset standard")
    assert next_run("fast", DataConfig(name="synthetic")).endswith(" --preset fast")
