"""The stops of training; the loop is tested with whole runs, in `test_loop`, `test_shapes` and `test_processes`."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fmnist_jax.config.schema import Config, DataConfig, ModelConfig, ParallelConfig, RunConfig, TrainConfig
from fmnist_jax.functional.state import TrainState
from fmnist_jax.runs.loop import run
from fmnist_jax.runs.parallel import choose_layout
from fmnist_jax.runs.program import prepare
from fmnist_jax.runs.training import planned_stops, steps_taken

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
