"""The stops of training; the loop is tested with whole runs, in `test_loop`, `test_shapes` and `test_processes`."""

import json
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fmnist_jax import train
from fmnist_jax.config.schema import Config, DataConfig, ModelConfig, ParallelConfig, RunConfig, TrainConfig
from fmnist_jax.functional.state import TrainState
from fmnist_jax.runs.loop import run
from fmnist_jax.runs.parallel import choose_layout
from fmnist_jax.runs.program import prepare
from fmnist_jax.runs.training import how_to_resume, planned_stops, steps_taken
from fmnist_jax.system.environment import python_command

CONFIG = Config(
    data=DataConfig(name="synthetic", synthetic_train_size=100, validation_size=20),
    train=TrainConfig(epochs=3, batch_size=16, eval_every=2),
    parallel=ParallelConfig(devices=1),
    run=RunConfig(log_every=4, checkpoint_every=6),
)


def test_run_is_evaluated_every_eval_every_epochs_and_at_its_end() -> None:
    stops = list(planned_stops(CONFIG, 0))
    assert [stop.step for stop in stops] == [4, 8, 10, 12, 15]
    assert [stop.step for stop in stops if stop.evaluate] == [10, 15]
    assert [stop.step for stop in stops if stop.save] == [8, 10, 12, 15]


def test_resumed_run_has_the_stops_of_an_uninterrupted_one() -> None:
    all_stops = list(planned_stops(CONFIG, 0))
    for done, stop in enumerate(all_stops):
        assert list(planned_stops(CONFIG, stop.step)) == all_stops[done + 1 :]


@pytest.mark.parametrize(("steps", "expected"), [(jnp.int32(7), 7), (jnp.array([7, 7, 7], jnp.int32), 7)])
def test_steps_taken_is_the_same_for_one_model_and_for_members(steps: jax.Array, expected: int) -> None:
    state = TrainState(steps, {}, {}, (), jax.random.key(0))
    assert steps_taken(state, choose_layout(CONFIG)) == expected


def test_stops_do_not_depend_on_the_number_of_devices() -> None:
    eight_devices = replace(CONFIG, parallel=ParallelConfig(devices=8))
    assert list(planned_stops(eight_devices, 0)) == list(planned_stops(CONFIG, 0))


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


def test_chunk_is_timed_from_before_the_call_that_starts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare_slow_chunk(*prepare_args: Any) -> Any:
        state, program = prepare(*prepare_args)

        def chunk(*args: Any) -> Any:
            time.sleep(0.2)  # as on a GPU, where a call returns when the work is almost done
            return jax.block_until_ready(program.chunk(*args))

        return state, program._replace(chunk=chunk)

    monkeypatch.setattr("fmnist_jax.runs.loop.prepare", prepare_slow_chunk)
    config = replace(CONFIG, model=ModelConfig(family="plain", widths=(2,), depths=(1,)))
    run(replace(config, run=replace(CONFIG.run, dir=tmp_path / "run")))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = {line["step"]: line["images_per_second"] for line in lines if "train_loss" in line}
    assert list(rates) == [4, 8, 10, 12, 15]
    for previous, step in zip([0, *rates], rates, strict=False):
        assert rates[step] <= (step - previous) * CONFIG.train.batch_size / 0.2
