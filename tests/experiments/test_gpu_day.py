"""The day with a GPU: every stage rehearsed from end to end on the CPU, and what becomes of stages that end early."""

import importlib
import json
import time
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import tyro

from experiments import gpu_day, parity
from experiments.benchmark import run as benchmark
from experiments.gpu_day import Arguments, Command, Stage
from experiments.results import record, tables
from experiments.speedrun import run as speedrun, table

_SLEEP = Command("timeit", ("-n", "1", "-r", "1", "-s", "import time", "time.sleep(60)"))
_READ_BY_TABLES = {
    "experiments.benchmark.run": benchmark.RESULTS,
    "experiments.speedrun.run": speedrun.RESULTS,
    "experiments.results.record": record.RESULTS / "gpu",
}
_NOTHING, _FAILURE = Command("timeit", ("-n", "1", "-r", "1", "0")), Command("no_such_module", ())


def stage(*commands: Command, minutes: float = 1) -> Stage:
    return Stage(minutes, lambda _: commands)


@pytest.mark.parametrize("name", gpu_day.STAGES)
@pytest.mark.parametrize("rehearse", [True, False])
def test_every_command_takes_the_arguments_that_it_is_given(name: str, rehearse: bool, tmp_path: Path) -> None:
    for module, options in gpu_day.STAGES[name].commands(Arguments(out=tmp_path, rehearse=rehearse)):
        arguments = tyro.cli(importlib.import_module(module).Arguments, args=options)
        assert arguments.rehearse is rehearse
        folders = [getattr(arguments, field) for field in ("out", "results") if hasattr(arguments, field)]
        if rehearse or name == "parity":
            assert any(folder.is_relative_to(tmp_path) for folder in folders)
        else:
            assert folders == [_READ_BY_TABLES[module]]


@pytest.mark.slow
def test_everything_runs_from_end_to_end_at_a_tiny_size(tmp_path: Path) -> None:
    # `wide`, `small` and `record` are the command of `standard` with another name.
    stages = {name: each for name, each in gpu_day.STAGES.items() if name not in ("wide", "small", "record")}
    found = gpu_day.main(Arguments(out=tmp_path, rehearse=True), stages)
    assert found == dict.fromkeys(stages, "done")
    folder = tmp_path / "rehearsal"
    assert json.loads((folder / "stages.json").read_text()) == found
    assert json.loads((folder / "parity.json").read_text())["failed"] == []
    assert "training, fast network" in json.loads((folder / "benchmark" / "cpu.json").read_text())["rates"]
    assert "| 94% | fmnist_jax | 2 | 2 |" in table.table(table.read(folder / "speedrun" / "results"))
    recorded = tables.read(folder / "results")
    assert {(record["preset"], record["seed"]) for record in recorded} == {("standard", 0), ("standard", 1)}
    assert "| standard |" in tables.results_table(recorded)
    start = time.monotonic()
    assert gpu_day.main(Arguments(out=tmp_path, rehearse=True), stages) == found
    assert time.monotonic() - start < 1  # all of it is done


def test_only_the_stages_that_are_named_are_carried_out_in_their_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = tyro.cli(Arguments, args=["--out", str(tmp_path), "--stages", "standard", "parity"])
    stages = {"parity": stage(_NOTHING), "speedrun": stage(_FAILURE), "standard": stage(_NOTHING)}
    assert list(gpu_day.main(chosen, stages).items()) == [("standard", "done"), ("parity", "done")]
    assert "without --stages for everything that is left" in capsys.readouterr().out


def test_every_stage_can_be_named_and_nothing_else() -> None:
    named = get_args(get_args(get_type_hints(Arguments)["stages"])[0])
    assert named == tuple(gpu_day.STAGES)


def test_a_failed_stage_is_said_and_the_next_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = {"first": stage(_FAILURE, _NOTHING), "second": stage(_NOTHING)}
    found = gpu_day.main(Arguments(out=tmp_path), stages)
    assert found == {"first": "failed: no_such_module  exited with 1", "second": "done"}
    assert "start it again to continue" in capsys.readouterr().out
    # What is done is not done again, or it would fail.
    again = {"first": stage(_NOTHING), "second": stage(_FAILURE)}
    assert gpu_day.main(Arguments(out=tmp_path), again) == dict.fromkeys(stages, "done")


def test_a_stage_is_stopped_when_its_time_is_up_and_says_what_is_left(tmp_path: Path) -> None:
    start = time.monotonic()
    stages = {"slow": stage(_SLEEP, minutes=0.03), "late": stage(_NOTHING, _NOTHING, minutes=0)}
    found = gpu_day.main(Arguments(out=tmp_path), stages)
    assert time.monotonic() - start < 30
    assert found["slow"] == "stopped, out of time, in timeit -n 1: it resumes there"
    assert found["late"] == "stopped, out of time: 2 of 2 commands are left"


def test_parity_finds_what_differs() -> None:
    cpu = {"logits": np.zeros((3, 10)), "losses": np.full(50, 2.0)}
    apart = {"logits": np.zeros((3, 10)), "losses": np.full(50, 2.0)}
    assert set(parity.differences(cpu, apart).values()) == {0.0}
    apart["logits"][1, 2], apart["losses"][0], apart["losses"][49] = -0.5, 2.1, 1.5
    assert parity.differences(cpu, apart) == pytest.approx({"logits": 0.5, "first_loss": 0.05, "last_losses": 0.25})
    apart["losses"][:] = np.nan
    assert not parity.differences(cpu, apart)["first_loss"] <= 1
