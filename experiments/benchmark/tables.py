"""The benchmark's tables from its JSON: `python -m experiments.benchmark.tables experiments/benchmark/cpu.json`."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from experiments import markdown
from experiments.records import read_json
from experiments.script import run_script
from fmnist_jax import FmnistError


@dataclass(frozen=True)
class Arguments:
    """Prints the tables of a benchmark."""

    results: tyro.conf.Positional[Path]
    """What experiments.benchmark.run has written."""


def median_and_range(values: Sequence[float], fmt: str = "{:,.0f}") -> str:
    """The median, with the minimum and the maximum."""
    return f"{fmt.format(statistics.median(values))} ({fmt.format(min(values))} to {fmt.format(max(values))})"


def report(console: Console, results: Mapping[str, Any]) -> None:
    """Prints the tables of what was measured."""
    for title, sides in results.get("rates", {}).items():
        rows = [
            (name, median_and_range(values), _format_ratio(sides["fmnist_jax"], values))
            for name, values in sides.items()
        ]
        print_table(console, (title, "images/s, median (range)", "speed of fmnist_jax relative to it"), rows)
    if "loop" in results:
        _report_loop(console, results["loop"])


def _report_loop(console: Console, runs: Mapping[str, Any]) -> None:
    all_runs = [runs["cold"], runs["stopped"], runs["resumed"], *runs["warm"]]
    compilations = {name: {run["compilations"][name] for run in all_runs} for name in runs["cold"]["compilations"]}
    print_table(
        console,
        ("one run of `fmnist_jax.train`", "median (range)"),
        [
            ("loop time over bare step time", median_and_range(runs["overhead"], "{:.3f}")),
            ("peak memory, GB", median_and_range([run["peak_bytes"] / 1e9 for run in all_runs], "{:.2f}")),
            ("seconds to the first step, first time", f"{runs['cold']['seconds_to_first_step']:.1f}"),
            (
                "seconds to the first step, later",
                median_and_range([run["seconds_to_first_step"] for run in runs["warm"]], "{:.1f}"),
            ),
            ("compilations a function, fresh or resumed", str(max(max(counts) for counts in compilations.values()))),
        ],
    )


def print_table(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table as Markdown."""
    console.print(markdown.table(headings, rows), end="\n\n", soft_wrap=True, markup=False, highlight=False)


def _format_ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    return median_and_range(
        [own_rate / other_rate for own_rate, other_rate in zip(ours, theirs, strict=True)], "{:.2f}"
    )


def main(path: Path) -> None:
    """Prints the tables of a finished benchmark as Markdown."""
    if not path.is_file():
        raise FmnistError(f"{path} does not exist: give a file written by experiments.benchmark.run")
    report(Console(width=150), read_json(path))


if __name__ == "__main__":
    run_script(lambda arguments: main(arguments.results), Arguments)
