"""Where the time of a step goes, layer by layer: `python -m experiments.benchmark.costs`.

Times every piece of the benchmark's networks (`pieces`) here and in PyTorch, alternately; whole steps as the benchmark
does; and the machine's peak rates of matrix multiplication and memory traffic, all in one run on a CPU. Prints Markdown
tables and writes everything as JSON. `pip install '.[bench]'` installs PyTorch; without it, its columns stay empty.
"""

import importlib.util
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from experiments import rehearsal
from experiments.benchmark import jax_side, networks, pieces, tables
from experiments.benchmark.run import Worker, measure_alternately, refuse_lost_rates
from experiments.records import prepare_output, read_json, write_json
from experiments.script import refuse_too_few, run_script, start_jax
from experiments.speedrun.entries import BASELINE
from fmnist_jax import Config, DataConfig

RESULTS = Path(__file__).parent
# Bytes: an activation of 128 images of 28x28x32, which stays in a server's last-level cache, and one that never does.
_MEMORY_SIZES = {"activation": 4 * 128 * 28 * 28 * 32, "large": 2**28}
_SIDES = ("fmnist_jax", "PyTorch")


@dataclass(frozen=True)
class Arguments:
    """Times the pieces of a step against the machine's peak rates."""

    data: DataConfig = field(default_factory=DataConfig)
    networks: tuple[jax_side.Label, ...] = get_args(jax_side.Label)
    rounds: int = 4
    """How often each piece and each whole step is timed, alternating between the sides."""
    steps: int = 40
    """Training steps in each measurement of a whole step."""
    rehearse: bool = False
    """Shrink network and data to a few seconds' work, to try the command out."""
    out: Path = RESULTS / "costs.json"


def _side_modules(name: str) -> tuple[Any, Any]:
    """The modules that time a side's whole steps and its pieces."""
    if name == "fmnist_jax":
        return jax_side, pieces
    from experiments.benchmark import pytorch_pieces, pytorch_side

    return pytorch_side, pytorch_pieces


def measure_peaks(workers: Mapping[str, Worker]) -> dict[str, Any]:
    """Matrix multiplication in operations a second of each side, and memory traffic in bytes a second by JAX."""
    matrix_rates = measure_alternately(
        {name: partial(worker, _side_modules(name)[0].matrix_rate) for name, worker in workers.items()}, 3
    )
    timers = {name: partial(workers["fmnist_jax"], pieces.memory_rate, size) for name, size in _MEMORY_SIZES.items()}
    memory_rates = measure_alternately(timers, 3)
    return {
        "matrix_products": {name: max(rounds) for name, rounds in matrix_rates.items()},
        "memory": {name: max(rounds) for name, rounds in memory_rates.items()},
    }


def whole_step_timers(
    config: Config, network: jax_side.Network, train: bool, steps: int, workers: Mapping[str, Worker]
) -> Any:
    """For each side, a function that returns the seconds of a whole step, or of evaluating a batch."""
    batch = batch_size(config, train)

    def seconds(name: str) -> float:
        side, _ = _side_modules(name)
        measure, extra = (side.train_rate, (steps,)) if train else (side.eval_rate, ())
        return batch / workers[name](measure, config, network, False, *extra)

    return {name: partial(seconds, name) for name in workers}


def batch_size(config: Config, train: bool) -> int:
    """Images in a step, or in an evaluation batch."""
    return config.train.batch_size if train else config.train.eval_batch_size


def measure_piece(piece: pieces.Piece, rounds: int, workers: Mapping[str, Worker]) -> dict[str, Any]:
    """A piece's operations and bytes, and its seconds on each side."""
    timers = {name: partial(worker, _side_modules(name)[1].seconds, piece) for name, worker in workers.items()}
    return {
        "name": piece.name,
        "operations": pieces.floating_point_operations(piece),
        "bytes": pieces.bytes_moved(piece),
        "seconds": measure_alternately(timers, rounds),
    }


def seconds_at_peaks(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> float:
    """Seconds of a step whose pieces with products run at the peak matrix rate, all others at that of memory."""
    matrix_rate, memory_rate = (
        max(results["peaks"]["matrix_products"].values()),
        max(results["peaks"]["memory"].values()),
    )
    return sum(row["operations"] / matrix_rate if row["operations"] else row["bytes"] / memory_rate for row in rows)


def report(console: Console, results: Mapping[str, Any]) -> None:
    """Prints the tables of what was measured."""
    for title, measurement in results["costs"].items():
        headings = (
            f"{title}, {measurement['batch']} images",
            "GFLOP",
            "MB",
            "ms",
            "ms, PyTorch",
            "GFLOP/s",
            "GFLOP/s, PyTorch",
        )
        tables.print_table(console, headings, list(_table_rows(results, measurement)))
    console.print(peaks_note(results["peaks"]))


def peaks_note(peaks: Mapping[str, Any]) -> str:
    """The machine's peaks in words: operations a second of each side, and bytes read and written."""
    rates = [(name, f"{rate / 1e9:.0f}") for name, rate in peaks["matrix_products"].items()]
    bandwidths = [
        (f"{size / 1e6:.0f} MB", f"{peaks['memory'][name] / 1e9:.0f}") for name, size in _MEMORY_SIZES.items()
    ]
    products = " and ".join(f"{rate} in {name}" for name, rate in rates)
    memory = " and ".join(f"{rate} within {size}" for size, rate in bandwidths)
    return f"Matrix products in GFLOP/s: {products}; memory in GB/s: {memory}"


def _table_rows(results: Mapping[str, Any], measurement: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    rows = measurement["pieces"]
    operations, byte_count = (sum(row[key] for row in rows) for key in ("operations", "bytes"))
    for row in rows:
        times = {side: _median_ms(row, side) for side in row["seconds"]}
        yield _row(row["name"], row["operations"], row["bytes"], times)
    total_ms = {side: sum(_median_ms(row, side) for row in rows) for side in _SIDES if side in measurement["whole"]}
    yield _row("all pieces", operations, byte_count, total_ms)
    step_ms = {side: [1e3 * seconds for seconds in times] for side, times in measurement["whole"].items()}
    medians = {side: statistics.median(times) for side, times in step_ms.items()}
    ranges = {side: tables.median_and_range(times, "{:.1f}") for side, times in step_ms.items()}
    yield _row("the whole", operations, 0, medians, ranges)
    yield _row("at the machine's peaks", operations, byte_count, {"fmnist_jax": 1e3 * seconds_at_peaks(results, rows)})


def _row(
    name: str, operations: float, byte_count: float, ms: Mapping[str, float], texts: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """A row of the table: what is computed and moved, empty if nothing is, then the time and the rate of each side.

    Args:
      name: of the piece.
      operations: how many it computes.
      byte_count: how many bytes it moves.
      ms: milliseconds, by side; empty cells stand for a side without any.
      texts: what to write in place of the milliseconds.
    """
    times = texts or {side: f"{value:.1f}" for side, value in ms.items()}
    rates = {side: f"{operations / value / 1e6:.0f}" for side, value in ms.items() if operations}
    return (
        name,
        f"{operations / 1e9:.2f}" if operations else "",
        f"{byte_count / 1e6:.1f}" if byte_count else "",
        *(times.get(side, "") for side in _SIDES),
        *(rates.get(side, "") for side in _SIDES),
    )


def _median_ms(row: Mapping[str, Any], side: str) -> float:
    return 1e3 * statistics.median(row["seconds"][side])


def main(arguments: Arguments) -> None:
    """Measures, prints and writes.

    Raises:
      FmnistError: the file has what is not to be measured, and would be lost; or it cannot be written; or a number of
        anything is less than 1, or a list is empty.
    """
    refuse_too_few(arguments)
    config = replace(BASELINE, data=arguments.data)
    if arguments.rehearse:
        rehearsal.refuse_results_folder(arguments.out, RESULTS)
        config = rehearsal.shrink(config)
    has_torch = importlib.util.find_spec("torch") is not None
    if arguments.out.exists():
        wholes = {name: measured["whole"] for name, measured in read_json(arguments.out)["costs"].items()}
        refuse_lost_rates(arguments.out, wholes, arguments.networks, arguments.rounds, has_torch)
    prepare_output(arguments.out)
    start = time.perf_counter()
    workers = {name: Worker() for name in _SIDES if has_torch or name == "fmnist_jax"}
    for worker in workers.values():
        worker(start_jax, "cpu")
    results: dict[str, Any] = {
        **workers["fmnist_jax"](jax_side.measurement_origin),
        "peaks": measure_peaks(workers),
        "costs": {},
    }
    if has_torch:
        results["versions"] |= workers["PyTorch"](_side_modules("PyTorch")[0].versions)
    for label in arguments.networks:
        layers = networks.layers_of(config.model) if label == "fast" else networks.NOTEBOOK
        for phase, train in (("training", True), ("evaluation", False)):
            batch = batch_size(config, train)
            timers = whole_step_timers(config, jax_side.NETWORKS[label], train, arguments.steps, workers)
            results["costs"][f"{phase}, {label} network"] = {
                "batch": batch,
                "whole": measure_alternately(timers, arguments.rounds),
                "pieces": [
                    measure_piece(piece, arguments.rounds, workers)
                    for piece in pieces.list_pieces(layers, batch, train=train)
                ],
            }
    results["seconds"] = time.perf_counter() - start
    for worker in workers.values():
        worker.close()
    write_json(arguments.out, results)
    report(Console(width=200, markup=False), read_json(arguments.out))


if __name__ == "__main__":
    run_script(main, Arguments)
