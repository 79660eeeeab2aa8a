"""The benchmark's tables from its JSON: `python -m experiments.benchmark.tables experiments/benchmark/cpu.json`."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from experiments import markdown
from experiments.script import start
from fmnist_jax import FmnistError


@dataclass(frozen=True)
class Arguments:
    """Prints the tables of a benchmark."""

    found: tyro.conf.Positional[Path]
    """What experiments.benchmark.run has written."""


def spread(values: Sequence[float], form: str = "{:,.0f}") -> str:
    """The median, with the minimum and the maximum."""
    return f"{form.format(statistics.median(values))} ({form.format(min(values))} to {form.format(max(values))})"


def report(console: Console, found: Mapping[str, Any]) -> None:
    """Prints the tables of what was measured."""
    for what, sides in found.get("rates", {}).items():
        rows = [(name, spread(values), _ratio(sides["fmnist_jax"], values)) for name, values in sides.items()]
        show(console, (what, "images/s, median (range)", "fmnist_jax is so many times as fast"), rows)
    if "loop" in found:
        _report_loop(console, found["loop"])


def _report_loop(console: Console, runs: Mapping[str, Any]) -> None:
    every = [runs["cold"], runs["stopped"], runs["resumed"], *runs["warm"]]
    compiled = {name: {run["compilations"][name] for run in every} for name in runs["cold"]["compilations"]}
    show(
        console,
        ("one run of `fmnist_jax.train`", "median (range)"),
        [
            ("loop time over bare step time", spread(runs["overhead"], "{:.3f}")),
            ("peak memory, GB", spread([run["peak_bytes"] / 1e9 for run in every], "{:.2f}")),
            ("seconds to the first step, first time", f"{runs['cold']['seconds_to_first_step']:.1f}"),
            ("seconds to the first step, later", spread([r["seconds_to_first_step"] for r in runs["warm"]], "{:.1f}")),
            ("compilations a function, fresh or resumed", str(max(max(counts) for counts in compiled.values()))),
        ],
    )


def show(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table as Markdown."""
    console.print(markdown.table(headings, rows), end="\n\n", soft_wrap=True, markup=False, highlight=False)


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    return spread([our / their for our, their in zip(ours, theirs, strict=True)], "{:.2f}")


def main(path: Path) -> None:
    """Prints the tables of a finished benchmark as Markdown."""
    if not path.is_file():
        raise FmnistError(f"{path} does not exist: give a file written by experiments.benchmark.run")
    report(Console(width=150), json.loads(path.read_text()))


if __name__ == "__main__":
    start(lambda arguments: main(arguments.found), Arguments)
