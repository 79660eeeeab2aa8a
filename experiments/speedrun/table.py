"""Prints the speedrun's table from the committed result files: `python -m experiments.speedrun.table [--write]`.

With `--write`, puts it between its markers in the README and on the page of the speedrun.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from experiments import markdown
from experiments.benchmark.tables import median_and_range
from experiments.records import read_json, short_commit
from experiments.results.tables import EMPTY_NOTE, ROOT, Arguments, Record, fill_page, machine_name
from experiments.script import run_script
from experiments.speedrun.entries import Side
from experiments.speedrun.run import RESULTS
from experiments.speedrun.score import MIN_SEEDS, Summary, summarize

PAGES = (ROOT / "README.md", Path(__file__).parent / "README.md")
"""The pages that the table is on: the site, which has no README of the project, shows the second."""

_SIDE_NAMES: Mapping[str, str] = {
    "fmnist_jax": "fmnist_jax",
    "pytorch": "PyTorch, network of `fast` in 0.1.0",
    "pytorch-ours": "PyTorch, fmnist_jax's network and recipe",
}
_HEADINGS = (
    "target",
    "side",
    "epochs",
    "seeds",
    "test accuracy",
    "seconds, median (range)",
    "compiled in",
    "on",
    "with",
)


def read(folder: Path) -> list[Record]:
    """Reads the result files of all machines."""
    return [read_json(path) for path in sorted(folder.glob("*/*.json"))]


def table(records: Sequence[Record]) -> str:
    """Makes a row for each target, machine and side; what missed its target is in italics, as a note below explains."""
    if not records:
        return EMPTY_NOTE
    rows = markdown.table(_HEADINGS, map(_row_cells, sorted(records, key=_sort_key)))
    commits = sorted({short_commit(run["commit"] or "unknown") for record in records for run in record["runs"]})
    note = (
        "Accuracy: mean over the seeds, with half of its 95 % interval; *in italics* where it is below the target or "
        f"of fewer than {MIN_SEEDS} seeds. At commit {', '.join(commits)}."
    )
    return f"{rows}\n\n{note}"


def _sort_key(record: Record) -> tuple[float, str, int]:
    return float(record["target"]), machine_name(record["hardware"]), get_args(Side).index(record["side"])


def _row_cells(record: Record) -> tuple[str, ...]:
    summary, train = summarize(record["runs"], record["target"]), record["config"]["train"]
    compile_seconds = statistics.median(record["compile_seconds"])
    return (
        f"{record['target']}%",
        _SIDE_NAMES[record["side"]],
        str(train["epochs"]),
        str(summary.seeds),
        _format_accuracy(summary) + (", with mirror images" if train["eval_mirror"] else ""),
        median_and_range([run["seconds"] for run in record["runs"]], "{:.1f}"),
        f"{compile_seconds:.1f} s" if compile_seconds else "",
        machine_name(record["hardware"]),
        _format_library(record),
    )


def _format_accuracy(summary: Summary) -> str:
    margin = "" if summary.accuracy_margin is None else f" ± {100 * summary.accuracy_margin:.2f}"
    text = f"{100 * summary.accuracy_mean:.2f}%{margin}"
    return text if summary.reached else f"*{text}*"


def _format_library(record: Record) -> str:
    name = "jax" if record["side"] == "fmnist_jax" else "torch"
    version: Any = record["versions"][name]
    return f"{name} {version}"


def main(arguments: Arguments) -> None:
    """Writes the table if asked to, and prints it."""
    contents = {"speedrun": table(read(RESULTS))}
    if arguments.write:
        for page in PAGES:
            fill_page(page, contents)
    print(contents["speedrun"])


if __name__ == "__main__":
    run_script(main, Arguments)
