"""Prints the speedrun's table from the committed result files: `python -m experiments.speedrun.table [--write]`.

With `--write`, puts it between its markers in the README.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from experiments import markdown
from experiments.benchmark.tables import spread
from experiments.records import short
from experiments.results.tables import NOTHING, ROOT, Arguments, Record, machine, refill
from experiments.script import start
from experiments.speedrun.entries import Side
from experiments.speedrun.run import RESULTS
from experiments.speedrun.score import LEAST_SEEDS, Summary, summarize

_NAMES: Mapping[str, str] = {
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
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/*.json"))]


def table(records: Sequence[Record]) -> str:
    """Makes a row for each target, machine and side; what missed its target is in italics, as a note below explains."""
    if not records:
        return NOTHING
    rows = markdown.table(_HEADINGS, map(_cells, sorted(records, key=_place)))
    commits = sorted({short(run["commit"] or "unknown") for record in records for run in record["runs"]})
    note = (
        "Accuracy: mean over the seeds, with half of its 95 % interval; *in italics* where it is below the target or "
        f"of fewer than {LEAST_SEEDS} seeds. At commit {', '.join(commits)}."
    )
    return f"{rows}\n\n{note}"


def _place(record: Record) -> tuple[float, str, int]:
    return float(record["target"]), machine(record["hardware"]), get_args(Side).index(record["side"])


def _cells(record: Record) -> tuple[str, ...]:
    summary, train = summarize(record["runs"], record["target"]), record["config"]["train"]
    compiled = statistics.median(record["compile_seconds"])
    return (
        f"{record['target']}%",
        _NAMES[record["side"]],
        str(train["epochs"]),
        str(summary.seeds),
        _accuracy(summary) + (", with mirror images" if train["eval_mirror"] else ""),
        spread([run["seconds"] for run in record["runs"]], "{:.1f}"),
        f"{compiled:.1f} s" if compiled else "",
        machine(record["hardware"]),
        _library(record),
    )


def _accuracy(summary: Summary) -> str:
    margin = "" if summary.accuracy_margin is None else f" ± {100 * summary.accuracy_margin:.2f}"
    text = f"{100 * summary.accuracy_mean:.2f}%{margin}"
    return text if summary.reached else f"*{text}*"


def _library(record: Record) -> str:
    name = "jax" if record["side"] == "fmnist_jax" else "torch"
    version: Any = record["versions"][name]
    return f"{name} {version}"


def main(arguments: Arguments) -> None:
    """Prints the table, and writes it if asked to."""
    contents = {"speedrun": table(read(RESULTS))}
    print(contents["speedrun"])
    if arguments.write:
        refill(ROOT / "README.md", contents)


if __name__ == "__main__":
    start(main, Arguments)
