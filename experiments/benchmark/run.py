"""Times this project against a plain JAX loop and PyTorch, side by side: `python -m experiments.benchmark.run`.

Prints Markdown tables, writes all measurements as JSON, and plots how time grows. `experiments/README.md` defines each
figure. `pip install '.[bench]'` installs PyTorch; without it, its rows are left out.
"""

import importlib.util
import math
import os
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

from rich.console import Console

from experiments import rehearsal
from experiments.benchmark import jax_side, real_runs, scaling, tables
from experiments.records import prepare_output, read_json, write_json
from experiments.script import refuse_too_few, run_script, start_jax
from experiments.speedrun.entries import BASELINE, PLATFORMS, for_gpu, with_mirroring
from fmnist_jax import PRESETS, Config, DataConfig, FmnistError, keep_freed_memory, to_dict

RESULTS = Path(__file__).parent
_LOG_LINES = 8  # of a real run, at least; it is stopped after half of them
_MATRIX_SIZES = {"cpu": 2048, "gpu": 8192}  # large enough for the launch overhead to be negligible


Part = Literal["rates", "growth", "loop"]
"""What can be measured separately."""


@dataclass(frozen=True)
class Arguments:
    """Times this project against a plain JAX loop and PyTorch."""

    device: Literal["cpu", "gpu"] = "cpu"
    data: DataConfig = field(default_factory=DataConfig)
    rounds: int = 4
    """How often each rate is measured, alternating between the sides."""
    steps: int = 40
    """Training steps in each measurement of a rate."""
    parts: tuple[Part, ...] = get_args(Part)
    """What to measure: images a second, how time grows, and the overhead of real runs."""
    networks: tuple[jax_side.Label, ...] = get_args(jax_side.Label)
    """Networks whose rates to measure."""
    rehearse: bool = False
    """Shrink network and data to a few seconds' work, to try the command out."""
    out: Path = RESULTS
    """Folder for <device>.json and <device>-scaling.png."""


class Worker:
    """A separate process for one framework, so that neither's threads or memory get in the other's way.

    Each keeps the memory that it frees, as the command does, so that no side waits for the kernel to zero pages.
    """

    def __init__(self) -> None:
        """Does not start the process; the first call does."""
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=keep_freed_memory)

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function of an importable module there and waits for its result."""
        return self._pool.submit(function, *arguments).result()

    def close(self) -> None:
        """Ends the process."""
        self._pool.shutdown()


def configuration(arguments: Arguments) -> Config:
    """The network and recipe that `fast` had in version 0.1.0, so that figures are comparable across versions.

    On a GPU, with mirroring, in half precision and with batches large enough to fill it.

    Raises:
      FmnistError: a rehearsal would write among the results.
    """
    config = replace(BASELINE, data=arguments.data)
    if arguments.rehearse:
        rehearsal.refuse_results_folder(arguments.out, RESULTS)
        return rehearsal.shrink(config)
    return config if arguments.device == "cpu" else for_gpu(with_mirroring(config))


def current_preset(config: Config, arguments: Arguments) -> Config:
    """The current preset `fast`, on the same images and device."""
    preset = replace(PRESETS["fast"], data=config.data)
    if arguments.rehearse:
        return rehearsal.shrink(preset)
    return preset if arguments.device == "cpu" else for_gpu(preset)


def measure_alternately(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measures every side once per round, after a warm-up round that is not counted."""
    for measure in sides.values():
        measure()
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            measured[name].append(measure())
    return measured


def measure_rates(
    config: Config, arguments: Arguments, jax_worker: Worker, torch_worker: Worker | None
) -> dict[str, Any]:
    """Images a second of each side, by phase and network."""
    sides: list[tuple[str, Worker, Any, bool]] = [
        ("fmnist_jax", jax_worker, jax_side, False),
        ("plain JAX loop", jax_worker, jax_side, True),
    ]
    if torch_worker is not None:
        from experiments.benchmark import pytorch_side

        sides += [
            ("PyTorch", torch_worker, pytorch_side, False),
            ("PyTorch, torch.compile", torch_worker, pytorch_side, True),
        ]
    results: dict[str, Any] = {}
    for label in arguments.networks:
        network = jax_side.NETWORKS[label]
        train = {
            name: partial(worker, side.train_rate, config, network, variant, arguments.steps)
            for name, worker, side, variant in sides
        }
        evaluate = {
            name: partial(worker, side.eval_rate, config, network, variant) for name, worker, side, variant in sides
        }
        results[f"training, {label} network"] = measure_alternately(train, arguments.rounds)
        results[f"evaluation, {label} network"] = measure_alternately(evaluate, arguments.rounds)
    return results


def measure_real_runs(config: Config, arguments: Arguments, jax_worker: Worker) -> dict[str, Any]:
    """Start-up, memory, compilations and overhead of real runs."""
    steps, rounds = 2 * arguments.steps, 3
    epochs = math.ceil(_LOG_LINES * config.run.log_every * config.train.batch_size / config.data.train_size)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "executables"

        def run_command(name: str, stop_after: int | None = None) -> real_runs.Run:
            return real_runs.run(real_runs.train_arguments(config, Path(folder) / name, epochs), cache, stop_after)

        cold, stopped, resumed = (
            run_command("cold"),
            run_command("stopped", stop_after=_LOG_LINES // 2),
            run_command("stopped"),
        )
        bare_seconds = [jax_worker(jax_side.step_seconds, config, steps) for _ in range(2)][1:]
        runs = []
        for index in range(rounds):
            runs.append(run_command(f"run{index}"))
            bare_seconds.append(jax_worker(jax_side.step_seconds, config, steps))
    overheads = [
        run.seconds_per_step / (0.5 * (bare_seconds[index] + bare_seconds[index + 1])) for index, run in enumerate(runs)
    ]
    return {
        "cold": cold._asdict(),
        "stopped": stopped._asdict(),
        "resumed": resumed._asdict(),
        "warm": [run._asdict() for run in runs],
        "bare_step_seconds": bare_seconds,
        "overhead": overheads,
    }


def measure_growth(config: Config, jax_worker: Worker) -> dict[str, list[tuple[float, float, float]]]:
    """Each value of images, batch size and width, with the seconds and the images trained on in them."""
    return {
        name: [
            (value, min(jax_worker(scaling.time_steps, variant, steps, 3)), steps * variant.train.batch_size)
            for value, variant, steps in rows
        ]
        for name, rows in scaling.variants(config).items()
    }


def refuse_lost_parts(path: Path, parts: Collection[str]) -> None:
    """Checks that a file with the results of all parts is not replaced by one with fewer.

    Raises:
      FmnistError: it would be.
    """
    found = read_json(path) if path.exists() else {}
    if lost := [part for part in get_args(Part) if part in found and part not in parts]:
        raise FmnistError(f"{path} has {' and '.join(lost)}, which --parts leaves out: give another --out")


def refuse_lost_rates(
    path: Path, measured: Mapping[str, Any], labels: Collection[str], rounds: int, has_torch: bool
) -> None:
    """Checks that a file's rates are not replaced by those of fewer networks, sides or rounds.

    Args:
      path: the file.
      measured: what it has: a list of each side's rates, by side, by phase and network.
      labels: the networks to measure.
      rounds: how often.
      has_torch: whether PyTorch's sides can be measured.

    Raises:
      FmnistError: they would be.
    """
    if not has_torch and any(side.startswith("PyTorch") for sides in measured.values() for side in sides):
        raise FmnistError(
            f"{path} has PyTorch's rates, and PyTorch is not installed: pip install '.[bench]', or give another --out"
        )
    if lost := [name for name in measured if not any(f" {label} " in name for label in labels)]:
        raise FmnistError(f"{path} has {' and '.join(lost)}, which --networks leaves out: give another --out")
    most = max((len(rates) for sides in measured.values() for rates in sides.values()), default=0)
    if rounds < most:
        raise FmnistError(f"{path} has {most} rounds, and --rounds is {rounds}: choose {most}, or give another --out")


def main(arguments: Arguments) -> None:
    """Measures, prints and writes.

    Raises:
      FmnistError: the file has what is not to be measured, and would be lost; or the folder cannot be made; or a number
        of anything is less than 1, or a list is empty.
    """
    refuse_too_few(arguments)
    path = arguments.out / f"{arguments.device}.json"
    unfinished = path.with_name(f"{arguments.device}-unfinished.json")
    config = configuration(arguments)
    refuse_lost_parts(path, arguments.parts)
    has_torch = importlib.util.find_spec("torch") is not None
    if path.exists():
        recorded = read_json(path)
        if "rates" in arguments.parts:
            refuse_lost_rates(path, recorded.get("rates", {}), arguments.networks, arguments.rounds, has_torch)
        if (name := recorded["config"]["data"]["name"]) != config.data.name:
            raise FmnistError(f"{path} is of {name} images, and --data.name is {config.data.name}: give another --out")
        if (steps := recorded["steps"]) > arguments.steps:
            raise FmnistError(
                f"{path} has {steps} steps, and --steps is {arguments.steps}: choose {steps}, or give another --out"
            )
    prepare_output(path)
    os.environ["JAX_PLATFORMS"] = PLATFORMS[arguments.device]
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # two frameworks share the device
    console, start = Console(width=150, markup=False), time.perf_counter()
    jax_worker = Worker()
    torch_worker = Worker() if has_torch else None
    jax_worker(start_jax, PLATFORMS[arguments.device])
    origin = jax_worker(jax_side.measurement_origin)
    if torch_worker is not None:
        from experiments.benchmark import pytorch_side

        origin["versions"] |= torch_worker(pytorch_side.versions)
    else:
        console.print("PyTorch is not installed, so its rows are left out: pip install '.[bench]'")
    results: dict[str, Any] = {
        "config": to_dict(config),
        "steps": arguments.steps,
        **origin,
        "matrix_products_per_second": jax_worker(
            jax_side.matrix_rate, _MATRIX_SIZES[arguments.device], config.model.dtype
        ),
    }
    measures: dict[Part, Callable[[], Any]] = {
        "rates": lambda: measure_rates(config, arguments, jax_worker, torch_worker),
        "growth": lambda: measure_growth(config, jax_worker),
        "loop": lambda: measure_real_runs(current_preset(config, arguments), arguments, jax_worker),
    }
    for name in arguments.parts:
        results[name] = measures[name]()
        results["seconds"] = time.perf_counter() - start
        write_json(unfinished, results)  # at once, in case a later part fails
        console.print(f"{name}: done after {time.perf_counter() - start:.0f} s")
    for worker in filter(None, (jax_worker, torch_worker)):
        worker.close()
    unfinished.replace(path)
    if "growth" in results:
        scaling.figure(results["growth"]).savefig(arguments.out / f"{arguments.device}-scaling.png", dpi=100)
    tables.report(console, results)


if __name__ == "__main__":
    run_script(main, Arguments)
