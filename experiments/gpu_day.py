"""Runs all that needs a GPU on a machine with one, for 25 minutes: `python -m experiments.gpu_day [--stages NAME…]`.

Parity with the CPU, the benchmark, the speedrun and the presets at full length, stage by stage, each with its own time
limit. Start it again for another 25 minutes: finished stages are skipped, unless named, and the speedrun and presets
go on with the seeds that are not recorded. It leaves the files that the tables are made from; `--rehearse` tries it all
out on a CPU, in a separate folder.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from experiments.benchmark.run import RESULTS as BENCHMARKS
from experiments.records import make_folder, read_json, write_json
from experiments.results.record import RESULTS
from experiments.script import run_script
from experiments.speedrun.entries import ENTRIES, PLATFORMS, Device
from experiments.speedrun.run import RESULTS as SPEEDRUNS
from fmnist_jax import FmnistError

_GRACE_SECONDS = 60  # that a command told to stop has to save its state
_TABLE_COMMANDS = (
    "experiments.results.tables --write",
    "experiments.speedrun.table --write",
    "experiments.benchmark.tables experiments/benchmark/gpu.json",
)


@dataclass(frozen=True)
class Arguments:
    """Runs everything that needs a GPU, stage by stage, and resumes where it stopped."""

    out: Path = Path("runs/gpu-day")
    """Folder for `stages.json` and the run directories."""
    minutes: float = 25
    """Time limit for all stages together."""
    stages: tuple[Literal["parity", "benchmark", "speedrun", "wide", "standard", "small", "record"], ...] = ()
    """Which stages to run, in this order, done or not; all that are not done if none is named."""
    rehearse: bool = False
    """Try everything out on a CPU in a few steps; all files go into the folder's subfolder `rehearsal`."""


class Command(NamedTuple):
    """A module of this repository with its arguments, and what to add to its environment."""

    module: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = {}


class Stage(NamedTuple):
    """Commands that share a time limit."""

    minutes: float
    """The time limit."""
    commands: Callable[[Arguments], Sequence[Command]]


def _results_path(arguments: Arguments, committed: Path) -> Path:
    return arguments.out / committed.relative_to(Path(__file__).parent) if arguments.rehearse else committed


def _device(arguments: Arguments) -> Device:
    return "cpu" if arguments.rehearse else "gpu"


def _device_flags(arguments: Arguments) -> tuple[str, ...]:
    return ("--device", _device(arguments))


def _rehearse_flags(arguments: Arguments) -> tuple[str, ...]:
    return ("--rehearse",) if arguments.rehearse else ()


def parity(arguments: Arguments) -> Sequence[Command]:
    """Compares logits of the same weights and losses of the same training."""
    out = ("--out", str(arguments.out / "parity.json"))
    return [Command("experiments.parity", (*out, *_device_flags(arguments), *_rehearse_flags(arguments)))]


def benchmark(arguments: Arguments) -> Sequence[Command]:
    """Rates and the overhead of real runs, but not how time grows."""
    # On a GPU, 40 steps would take less than a tenth of a second.
    size = ("--rounds", "1", "--steps", "1", "--networks", "fast") if arguments.rehearse else ("--steps", "200")
    out = ("--out", str(_results_path(arguments, BENCHMARKS)))
    options = (*out, *size, "--parts", "rates", "loop", *_device_flags(arguments), *_rehearse_flags(arguments))
    return [Command("experiments.benchmark.run", options)]


def speedrun(arguments: Arguments) -> Sequence[Command]:
    """This project's entries for a GPU, then PyTorch's."""
    targets = {side: tuple(devices["gpu"]) for side, devices in ENTRIES.items()}
    targets["pytorch-ours"] = ("94",)  # the others are residual networks, which PyTorch's side does not support
    if arguments.rehearse:
        targets = {"fmnist_jax": ("94",)}
    shared = (
        "--results",
        str(_results_path(arguments, SPEEDRUNS)),
        *_device_flags(arguments),
        *_rehearse_flags(arguments),
    )
    seeds = ("--seeds", "2") if arguments.rehearse else ()
    return [
        Command("experiments.speedrun.run", ("--target", target, "--side", side, *shared, *seeds))
        for side, side_targets in targets.items()
        for target in side_targets
    ]


def preset(name: str, seeds: int) -> Callable[[Arguments], Sequence[Command]]:
    """A preset at full length, one seed after another: populations have not been tried on a GPU."""

    def commands(arguments: Arguments) -> Sequence[Command]:
        seed_count = 2 if arguments.rehearse else seeds
        # A separate folder, because a CPU's file for the same preset and seed has the same name.
        folders = (
            "--results",
            str(_results_path(arguments, RESULTS) / "gpu"),
            "--runs",
            str(arguments.out / "recorded"),
        )
        seed_flags = ("--seeds", *map(str, range(seed_count)))
        options = ("--presets", name, *seed_flags, *folders, *_rehearse_flags(arguments))
        environment = {
            "JAX_PLATFORMS": PLATFORMS[_device(arguments)],  # without it, JAX falls back to the CPU
            "JAX_COMPILATION_CACHE_DIR": str((arguments.out / "executables").absolute()),  # later seeds compile nothing
        }
        return [Command("experiments.results.record", options, environment)]

    return commands


STAGES: Mapping[str, Stage] = {
    "parity": Stage(3, parity),
    "benchmark": Stage(12, benchmark),
    "speedrun": Stage(30, speedrun),
    "wide": Stage(4, preset("wide", seeds=5)),
    "standard": Stage(9, preset("standard", seeds=5)),
    "small": Stage(10, preset("small", seeds=5)),
    "record": Stage(11, preset("record", seeds=5)),
}


def run_stage(stage: Stage, arguments: Arguments, deadline: float) -> str:
    """Runs a stage's commands one by one; returns "done", or what is left of it and why."""
    deadline = min(deadline, time.monotonic() + 60 * stage.minutes)
    failed = []
    for index, command in enumerate(commands := stage.commands(arguments)):
        if time.monotonic() >= deadline:
            left = f"out of time: {len(commands) - index} of {len(commands)} commands are left"
            break
        name = f"{command.module} {' '.join(command.arguments[:2])}"
        code = _run_command(command, deadline)
        if code is None:
            goes_on = command.module in ("experiments.speedrun.run", "experiments.results.record")
            left = f"out of time, in {name}: {'it goes on there' if goes_on else 'it starts anew'}"
            break
        if code:
            failed.append(f"{name} exited with {code}")
    else:
        return f"failed: {'; '.join(failed)}" if failed else "done"
    return f"failed: {'; '.join([*failed, left])}" if failed else f"stopped, {left}"


def _run_command(command: Command, deadline: float) -> int | None:
    """Runs a command and returns its exit code, or stops it at the deadline and returns None."""
    argv = [sys.executable, "-m", command.module, *command.arguments]
    environment = {**os.environ, **command.environment}
    # Its own session, so that its child processes, which would hold the GPU's memory, are ended with it.
    with subprocess.Popen(argv, env=environment, start_new_session=True) as process:
        try:
            return process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _stop(process)
            return None
        except BaseException:  # the user's Ctrl-C, which does not reach another session
            _stop(process)
            raise


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def main(arguments: Arguments, stages: Mapping[str, Stage] = STAGES) -> dict[str, str]:
    """Runs the stages that are not done; returns the outcome of each."""
    if arguments.minutes * 60 <= _GRACE_SECONDS:
        raise FmnistError(f"--minutes is {arguments.minutes}: choose more than {_GRACE_SECONDS / 60:g}")
    if arguments.rehearse:
        arguments = replace(arguments, out=arguments.out / "rehearsal")
    path, deadline = arguments.out / "stages.json", time.monotonic() + 60 * arguments.minutes - _GRACE_SECONDS
    outcomes: dict[str, str] = read_json(path) if path.exists() else {}
    pending = arguments.stages or [name for name in stages if outcomes.get(name) != "done"]
    needing_torch = {"benchmark", "speedrun"}.intersection(pending)
    if needing_torch and not arguments.rehearse and importlib.util.find_spec("torch") is None:
        stage_names = " and ".join(sorted(needing_torch))
        raise FmnistError(f"PyTorch, which {stage_names} compare with, is not installed: pip install '.[bench]'")
    make_folder(arguments.out)
    for name in pending:
        stage = stages[name]
        start = time.monotonic()
        print(f"=== {name}: at most {min(60 * stage.minutes, deadline - start) / 60:.0f} min", flush=True)
        outcomes[name] = run_stage(stage, arguments, deadline)
        write_json(path, outcomes)
        print(f"=== {name}: {outcomes[name]} ({time.monotonic() - start:.0f} s)", flush=True)
    print("\n".join(["", *(f"{name}: {state}" for name, state in outcomes.items())]))
    is_done = all(outcomes.get(name) == "done" for name in stages)
    if is_done and arguments.rehearse:
        print("the rehearsal is done; start it without --rehearse")
    elif is_done:
        print("everything is done; now: " + "; ".join(f"python -m {table}" for table in _TABLE_COMMANDS))
    else:
        print("start it again to continue, without --stages for everything that is left")
    return outcomes


def exit_code(outcomes: Mapping[str, str]) -> int:
    """1 if a stage has failed; one that ran out of time only waits for the next start."""
    return int(any(outcome.startswith("failed") for outcome in outcomes.values()))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the running command is stopped, too
    run_script(lambda arguments: sys.exit(exit_code(main(arguments))), Arguments)
