"""Compiles the presets for accelerators not at hand: `python -m experiments.accelerators.estimate [--write]`.

It needs Linux and `pip install '.[tpu]'`, but no TPU; for `h100:1` and `h100:8`, also `'.[cuda]'` (5.6 GB), but no GPU.
A compilation takes seconds to minutes on one CPU core, and its estimates are kept in `estimates.json` under the digest
of the program: one that has not changed is not compiled again. What is printed and, with `--write`, put into
`docs/accelerators.md`, the page beside this file and `chips.png` are compilers' estimates, not measurements.
"""

import hashlib
import importlib.metadata
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments import records as record_io
from experiments.accelerators.chips import TOPOLOGIES
from experiments.accelerators.compilers import Target, open_target, set_environment
from experiments.accelerators.costs import step_costs
from experiments.accelerators.hlo import loop_body, parse
from experiments.accelerators.programs import PARTS, Part, parts
from experiments.accelerators.proposal import proposal
from experiments.accelerators.tables import chips_table, layers_table, table, variants_table, work_table
from experiments.results.tables import ROOT, fill_page
from experiments.script import run_script
from fmnist_jax import PRESETS, Config, FmnistError

FOLDER = Path(__file__).parent
PAGE = ROOT / "docs" / "accelerators.md"
RESULTS = FOLDER / "estimates.json"
PICTURE = FOLDER / "chips.png"
SHOWN_TARGETS = ("v5e:1x1", "v5e:2x4", "h100:1", "h100:8")

Record = dict[str, Any]


@dataclass(frozen=True)
class Arguments:
    """Compiles presets for accelerators not at hand, and prints what compilers expect: nothing is measured."""

    targets: tuple[str, ...] = TOPOLOGIES
    """TPU topologies by name, such as v5e:2x4, v6e:1x1 or v5p:2x2x1, and h100:1 or h100:8."""
    presets: tuple[str, ...] = tuple(PRESETS)
    """Presets to compile."""
    parts: tuple[Part, ...] = PARTS
    """Which of their functions to compile."""
    results: Path = RESULTS
    """Where estimates are kept, and looked up before compiling."""
    write: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also write tables and figure to the page on accelerators and beside this file."""


def read_records(path: Path) -> list[Record]:
    """Reads the estimates that are kept; none if there is no file."""
    return record_io.read_json(path)["estimates"] if path.exists() else []


def save_records(path: Path, records: Iterable[Record]) -> None:
    """Writes the estimates atomically."""
    note = "Estimates of compilers, for chips that were not there: nothing here was measured."
    record_io.write_json(path, {"note": note, "estimates": list(records)})


def merge_record(records: Iterable[Record], new: Record) -> list[Record]:
    """The estimates with one more, which replaces an earlier one for the same target, preset and part."""
    return [*(record for record in records if record_key(record) != record_key(new)), new]


def record_key(record: Record) -> tuple[Any, ...]:
    """What a record is for: target, preset or variant (whose name says how it differs), and part."""
    return record["target"], record["preset"], record["part"]


def estimate(target: Target, name: str, config: Config, part: Part, cached: Iterable[Record]) -> Record | None:
    """Compiles one function for one target, or reuses the known record of the identical program.

    Returns:
      The record, as values that JSON can hold; None if the chips cannot share the batch evenly.
    """
    chip_count = target.mesh.size
    batch_size = config.train.batch_size if part == "training" else config.train.eval_batch_size
    if part == "training" and batch_size % chip_count:
        return None
    lowered = parts(config, target.mesh)[part]().lower(target.platform)
    digest = hashlib.sha256(lowered.as_text().encode()).hexdigest()
    versions = _compiler_versions(target)
    key_fields = {
        "target": target.name,
        "preset": name,
        "part": part,
        "batch_size": batch_size,
        "widths": [*config.model.widths],
    }
    for record in cached:
        if (record_key(record), record["program"], record["versions"]) == (record_key(key_fields), digest, versions):
            return record
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - start
    program = parse(compiled.as_text())
    cost_analysis = compiled.cost_analysis() or {}
    return {
        **key_fields,
        "chips": chip_count,
        "device_kind": str(target.mesh.devices.flat[0].device_kind),
        "flops": cost_analysis.get("flops"),
        "bytes": cost_analysis.get("bytes accessed"),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "argument_bytes": compiled.memory_analysis().argument_size_in_bytes,
        **step_costs(program, loop_body(program) if part == "training" else program.entry),
        "program": digest,
        "compile_seconds": round(seconds, 1),
        "versions": versions,
        "commit": _current_commit(),
    }


def estimate_all(arguments: Arguments, cached: list[Record]) -> Iterator[Record]:
    """Estimates target by target, so that each is opened once.

    Raises:
      FmnistError: a compiler is missing, or there is no such target or preset.
    """
    if unknown := [name for name in arguments.presets if name not in PRESETS]:
        raise FmnistError(f"{unknown[0]} is not a preset: choose from {', '.join(PRESETS)}")
    for name in arguments.targets:
        target = open_target(name)
        for preset in arguments.presets:
            for part in arguments.parts:
                record = estimate(target, preset, PRESETS[preset], part, cached)
                if record is None:
                    print(f"{name}, {preset}, {part}: its chips cannot share a batch evenly", file=sys.stderr)
                else:
                    print(f"{name}, {preset}, {part}: {record['compile_seconds']} s to compile", file=sys.stderr)
                    yield record


def _compiler_versions(target: Target) -> dict[str, str]:
    """Versions of the packages that compile."""
    packages = ("jax", "jaxlib", "libtpu" if target.platform == "tpu" else "jax-cuda13-plugin")
    return {name: importlib.metadata.version(name) for name in packages}


def _current_commit() -> str | None:
    """The commit of the working tree, with `+changes` where a file of the package differs from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno", "fmnist_jax"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+changes" if changed else commit


def main(arguments: Arguments) -> None:
    """Estimates, keeps, prints, and writes the pages if asked to."""
    records = read_records(arguments.results)
    for record in estimate_all(arguments, list(records)):
        records = merge_record(records, record)
        save_records(arguments.results, records)
    print(table(records))
    if arguments.write:
        write_pages(records)


def write_pages(records: list[Record]) -> None:
    """Writes the tables to the page on accelerators and the page beside this file, and draws the figure."""
    from experiments.accelerators.figure import figure

    fill_page(PAGE, {"accelerators": short_table(records)})
    fill_page(FOLDER / "README.md", page_tables(records, read_records(FOLDER / "variants.json")))
    figure(records).savefig(PICTURE, dpi=110)


def short_table(records: list[Record]) -> str:
    """Training on one chip and on a board of eight, of the first kind of TPU and of a GPU."""
    return table([record for record in records if record["part"] == "training"], SHOWN_TARGETS)


def page_tables(records: list[Record], variants: list[Record]) -> dict[str, str]:
    """The contents of the page beside this file, by the names of their markers."""
    return {
        "chips": chips_table(),
        "all": table(records),
        "work": work_table(records),
        "layers": layers_table(records),
        "variants": variants_table(variants),
        "proposal": proposal(variants),
    }


def run_compiler_script(main: Callable[[Any], None], arguments: type) -> None:
    """Runs a compiling script with the process's arguments; an error that the user can fix is one line."""
    set_environment()
    run_script(main, arguments)


if __name__ == "__main__":
    run_compiler_script(main, Arguments)
