"""The GPU day: every stage rehearsed from end to end on the CPU, and stages that fail or run out of time."""

import importlib
import importlib.util
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
from experiments.speedrun.entries import PLATFORMS
from fmnist_jax import FmnistError

_SLEEP = Command("timeit", ("-n", "1", "-r", "1", "-s", "import time", "time.sleep(60)"))
_RESULT_FOLDERS = {
    "experiments.benchmark.run": benchmark.RESULTS,
    "experiments.speedrun.run": speedrun.RESULTS,
    "experiments.results.record": record.RESULTS / "gpu",
}
_NO_OP, _FAILURE = Command("timeit", ("-n", "1", "-r", "1", "0")), Command("no_such_module", ())


def make_stage(*commands: Command, minutes: float = 1) -> Stage:
    return Stage(minutes, lambda _: commands)


@pytest.mark.parametrize("name", gpu_day.STAGES)
@pytest.mark.parametrize("rehearse", [True, False])
def test_every_stage_command_parses_its_arguments(name: str, rehearse: bool, tmp_path: Path) -> None:
    for module, options, environment in gpu_day.STAGES[name].commands(Arguments(out=tmp_path, rehearse=rehearse)):
        platforms = {str(device): platform for device, platform in PLATFORMS.items()}
        chosen = platforms[options[options.index("--device") + 1]] if "--device" in options else None
        assert (chosen or environment["JAX_PLATFORMS"]) == ("cpu" if rehearse else "cuda")
        arguments = tyro.cli(importlib.import_module(module).Arguments, args=options)
        assert arguments.rehearse is rehearse
        folders = [getattr(arguments, field) for field in ("out", "results") if hasattr(arguments, field)]
        if rehearse or name == "parity":
            assert any(folder.is_relative_to(tmp_path) for folder in folders)
        else:
            assert folders == [_RESULT_FOLDERS[module]]


@pytest.mark.slow
def test_rehearsal_runs_every_stage_from_end_to_end(tmp_path: Path) -> None:
    # `wide`, `small` and `record` are the command of `standard` with another name.
    stages = {name: stage for name, stage in gpu_day.STAGES.items() if name not in ("wide", "small", "record")}
    outcomes = gpu_day.main(Arguments(out=tmp_path, rehearse=True), stages)
    assert outcomes == dict.fromkeys(stages, "done")
    folder = tmp_path / "rehearsal"
    assert json.loads((folder / "stages.json").read_text()) == outcomes
    assert json.loads((folder / "parity.json").read_text())["failed"] == []
    measured = json.loads((folder / "benchmark" / "cpu.json").read_text())
    sides = measured["rates"]["training, fast network"]
    assert len(sides) == (4 if importlib.util.find_spec("torch") else 2)
    assert all(rate > 0 for rates in sides.values() for rate in rates)
    assert measured["loop"]["cold"]["compilations"] == measured["loop"]["resumed"]["compilations"]
    assert "| 94% | fmnist_jax | 2 | 2 |" in table.table(table.read(folder / "speedrun" / "results"))
    records = tables.read_records(folder / "results")
    assert {(record["preset"], record["seed"]) for record in records} == {("standard", 0), ("standard", 1)}
    assert "| standard, batches of 32 |" in tables.results_table(records)  # as it is shrunk
    start = time.monotonic()
    assert gpu_day.main(Arguments(out=tmp_path, rehearse=True), stages) == outcomes
    assert time.monotonic() - start < 1  # everything is already done


def test_only_named_stages_run_in_the_order_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = tyro.cli(Arguments, args=["--out", str(tmp_path), "--stages", "standard", "parity"])
    stages = {"parity": make_stage(_NO_OP), "speedrun": make_stage(_FAILURE), "standard": make_stage(_NO_OP)}
    assert list(gpu_day.main(chosen, stages).items()) == [("standard", "done"), ("parity", "done")]
    assert "without --stages for everything that is left" in capsys.readouterr().out


def test_stages_option_accepts_exactly_the_stages() -> None:
    choices = get_args(get_args(get_type_hints(Arguments)["stages"])[0])
    assert choices == tuple(gpu_day.STAGES)


def test_failed_stage_is_reported_and_the_next_one_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = {"first": make_stage(_FAILURE, _NO_OP), "second": make_stage(_NO_OP)}
    outcomes = gpu_day.main(Arguments(out=tmp_path), stages)
    assert outcomes == {"first": "failed: no_such_module  exited with 1", "second": "done"}
    assert "start it again to continue" in capsys.readouterr().out
    # A finished stage is not run again: `second` would fail.
    changed_stages = {"first": make_stage(_NO_OP), "second": make_stage(_FAILURE)}
    assert gpu_day.main(Arguments(out=tmp_path), changed_stages) == dict.fromkeys(stages, "done")


@pytest.mark.parametrize("rehearse", [True, False])
def test_what_to_do_next_differs_after_a_rehearsal(
    rehearse: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu_day.main(Arguments(out=tmp_path, rehearse=rehearse), {"only": make_stage(_NO_OP)})
    last = capsys.readouterr().out.splitlines()[-1]
    if rehearse:
        assert last == "the rehearsal is done; start it without --rehearse"
    else:
        assert last.startswith("everything is done; now: python -m experiments.results.tables --write; python -m ")


def test_stage_is_stopped_at_its_time_limit_and_reports_what_is_left(tmp_path: Path) -> None:
    start = time.monotonic()
    stages = {"slow": make_stage(_SLEEP, minutes=0.03), "late": make_stage(_NO_OP, _NO_OP, minutes=0)}
    outcomes = gpu_day.main(Arguments(out=tmp_path), stages)
    assert time.monotonic() - start < 30
    assert outcomes["slow"] == "stopped, out of time, in timeit -n 1: it starts anew"
    assert outcomes["late"] == "stopped, out of time: 2 of 2 commands are left"


def test_failure_is_told_even_if_the_stage_then_runs_out_of_time(tmp_path: Path) -> None:
    outcomes = gpu_day.main(Arguments(out=tmp_path), {"only": make_stage(_FAILURE, _SLEEP, minutes=0.05)})
    assert outcomes["only"].startswith("failed: no_such_module  exited with 1; out of time")
    assert gpu_day.exit_code(outcomes) == 1


def test_named_stage_runs_again_although_it_is_done_with_its_environment(tmp_path: Path) -> None:
    write = "import os, pathlib; pathlib.Path(os.environ['MARK']).touch()"
    mark = tmp_path / "mark"
    command = Command("timeit", ("-n", "1", "-r", "1", write), {"MARK": str(mark)})
    chosen = tyro.cli(Arguments, args=["--out", str(tmp_path), "--stages", "parity"])
    for _ in range(2):
        mark.unlink(missing_ok=True)
        assert gpu_day.main(chosen, {"parity": make_stage(command)}) == {"parity": "done"}
        assert mark.exists()


def test_parity_measures_differences_and_keeps_nan() -> None:
    cpu = {"logits": np.zeros((3, 10)), "losses": np.full(50, 2.0)}
    other = {"logits": np.zeros((3, 10)), "losses": np.full(50, 2.0)}
    assert set(parity.differences(cpu, other).values()) == {0.0}
    other["logits"][1, 2], other["losses"][0], other["losses"][49] = -0.5, 2.1, 1.5
    assert parity.differences(cpu, other) == pytest.approx({"logits": 0.5, "first_loss": 0.05, "last_losses": 0.25})
    other["losses"][:] = np.nan
    assert not parity.differences(cpu, other)["first_loss"] <= 1


def test_exit_code_tells_failed_stages_only() -> None:
    assert gpu_day.exit_code({"parity": "done", "wide": "stopped, out of time, in x: it goes on there"}) == 0
    assert gpu_day.exit_code({"parity": "failed: x exited with 2", "wide": "done"}) == 1


def test_time_shorter_than_the_grace_period_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FmnistError, match="--minutes is 1: choose more than 1"):
        gpu_day.main(gpu_day.Arguments(out=tmp_path / "out", minutes=1))
