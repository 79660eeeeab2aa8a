"""Compiles the presets for accelerators that are not here: `python -m experiments.accelerators.estimate [--write]`.

It needs Linux, `pip install '.[tpu]'` and no TPU; for `h100:1` and `h100:8`, also `'.[cuda]'` (5.6
GB) and no GPU. A compilation takes from seconds to minutes of a CPU core, and is kept in `estimates.json` under the
digest of what was compiled: a program that has not changed is not compiled again. What is printed and, with `--write`,
put into `docs/accelerators.md`, the page beside this file and `chips.png`, are estimates of compilers: no measurements.
"""

import hashlib
import importlib.metadata
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments import records as recorded
from experiments.accelerators.chips import TOPOLOGIES
from experiments.accelerators.compilers import Target, open_target, prepare
from experiments.accelerators.costs import step_costs
from experiments.accelerators.hlo import loop_body, parse
from experiments.accelerators.programs import PARTS, Part, parts
from experiments.accelerators.proposal import proposal
from experiments.accelerators.tables import chips_table, layers_table, table, variants_table, work_table
from experiments.results.tables import ROOT, refill
from experiments.script import start
from fmnist_jax import PRESETS, Config, FmnistError

FOLDER = Path(__file__).parent
PAGE = ROOT / "docs" / "accelerators.md"
RESULTS = FOLDER / "estimates.json"
PICTURE = FOLDER / "chips.png"
SHOWN = ("v5e:1x1", "v5e:2x4", "h100:1", "h100:8")

Record = dict[str, Any]


@dataclass(frozen=True)
class Arguments:
    """Compiles presets for accelerators that are not here, and prints what compilers expect: nothing is measured."""

    targets: tuple[str, ...] = TOPOLOGIES
    """Topologies of TPUs by name, as v5e:2x4, v6e:1x1 or v5p:2x2x1, and h100:1 or h100:8."""
    presets: tuple[str, ...] = tuple(PRESETS)
    """Which presets."""
    parts: tuple[Part, ...] = PARTS
    """Which of their functions."""
    results: Path = RESULTS
    """Where estimates are kept, and looked for before compiling."""
    write: tyro.conf.FlagCreatePairsOff[bool] = False
    """Put table and figure onto the page of accelerators and beside this file, too."""


def read(path: Path) -> list[Record]:
    """Reads the estimates that are kept, none without a file."""
    return json.loads(path.read_text())["estimates"] if path.exists() else []


def keep(path: Path, records: Iterable[Record]) -> None:
    """Writes the estimates, whole or not at all."""
    note = "Estimates of compilers, for chips that were not there: nothing here was measured."
    recorded.write(path, {"note": note, "estimates": list(records)})


def merged(records: Iterable[Record], new: Record) -> list[Record]:
    """The estimates with one more, which takes the place of an earlier one of the same target, preset and part."""
    return [*(each for each in records if identity(each) != identity(new)), new]


def identity(record: Record) -> tuple[Any, ...]:
    """What a record is of: a preset as it is now, or a variant, whose name says in what it differs."""
    return record["target"], record["preset"], record["part"]


def estimate(target: Target, name: str, config: Config, part: Part, known: Iterable[Record]) -> Record | None:
    """Compiles one function for one target, or takes what is known of the very same program.

    Returns:
      The record, as JSON takes it; None if the chips cannot share the batch evenly.
    """
    chips = target.mesh.size
    batch = config.train.batch_size if part == "training" else config.train.eval_batch_size
    if part == "training" and batch % chips:
        return None
    lowered = parts(config, target.mesh)[part]().lower(target.platform)
    digest = hashlib.sha256(lowered.as_text().encode()).hexdigest()
    versions = _versions(target)
    of = {"target": target.name, "preset": name, "part": part, "batch_size": batch, "widths": [*config.model.widths]}
    for record in known:
        if (identity(record), record["program"], record["versions"]) == (identity(of), digest, versions):
            return record
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - start
    program = parse(compiled.as_text())
    counted = compiled.cost_analysis() or {}
    return {
        **of,
        "chips": chips,
        "device_kind": str(target.mesh.devices.flat[0].device_kind),
        "flops": counted.get("flops"),
        "bytes": counted.get("bytes accessed"),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "argument_bytes": compiled.memory_analysis().argument_size_in_bytes,
        **step_costs(program, loop_body(program) if part == "training" else program.entry),
        "program": digest,
        "compile_seconds": round(seconds, 1),
        "versions": versions,
        "commit": _commit(),
    }


def estimates(arguments: Arguments, known: list[Record]) -> Iterator[Record]:
    """Estimates target by target, so that each is opened once.

    Raises:
      FmnistError: a compiler is missing, or there is no such target or preset.
    """
    if unknown := [name for name in arguments.presets if name not in PRESETS]:
        raise FmnistError(f"{unknown[0]} is no preset: choose of {', '.join(PRESETS)}")
    for name in arguments.targets:
        target = open_target(name)
        for preset in arguments.presets:
            for part in arguments.parts:
                found = estimate(target, preset, PRESETS[preset], part, known)
                if found is None:
                    print(f"{name}, {preset}, {part}: its chips cannot share a batch evenly", file=sys.stderr)
                else:
                    print(f"{name}, {preset}, {part}: {found['compile_seconds']} s to compile", file=sys.stderr)
                    yield found


def _versions(target: Target) -> dict[str, str]:
    """Versions of what compiles."""
    packages = ("jax", "jaxlib", "libtpu" if target.platform == "tpu" else "jax-cuda13-plugin")
    return {name: importlib.metadata.version(name) for name in packages}


def _commit() -> str | None:
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
    """Estimates, keeps, prints, and writes where that is asked for."""
    records = read(arguments.results)
    for found in estimates(arguments, list(records)):
        records = merged(records, found)
        keep(arguments.results, records)
    print(table(records))
    if arguments.write:
        write(records)


def write(records: list[Record]) -> None:
    """Puts the tables onto the page of accelerators and the page beside this file, and draws the figure."""
    from experiments.accelerators.figure import figure

    refill(PAGE, {"accelerators": short_table(records)})
    refill(FOLDER / "README.md", page_tables(records, read(FOLDER / "variants.json")))
    figure(records).savefig(PICTURE, dpi=110)


def short_table(records: list[Record]) -> str:
    """Training on one chip and on a board of eight, of the first kind of TPU and of a GPU."""
    return table([each for each in records if each["part"] == "training"], SHOWN)


def page_tables(records: list[Record], variants: list[Record]) -> dict[str, str]:
    """What the page beside this file shows, by the names of its markers."""
    return {
        "chips": chips_table(),
        "all": table(records),
        "work": work_table(records),
        "layers": layers_table(records),
        "variants": variants_table(variants),
        "proposal": proposal(variants),
    }


def command(main: Callable[[Any], None], kind: type) -> None:
    """Runs a script of compilers with the process's arguments; what the user can mend is one line."""
    prepare()
    start(main, kind)


if __name__ == "__main__":
    command(main, Arguments)
