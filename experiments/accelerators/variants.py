"""Other widths and batches of `Config()` and `record`, for one chip: `python -m experiments.accelerators.variants`.

It explores how a preset for accelerators might differ, by what XLA's compiler expects of a TPU v5e; how well such a
network learns, no compiler can tell. Like `estimate`, it keeps what it has compiled, in `variants.json`.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from experiments.accelerators.compilers import open_target
from experiments.accelerators.estimate import (
    FOLDER,
    RESULTS as ESTIMATES,
    Record,
    estimate,
    merge_record,
    read_records,
    run_compiler_script,
    save_records,
)
from fmnist_jax import PRESETS, Config

RESULTS = FOLDER / "variants.json"
TARGET = "v5e:1x1"


@dataclass(frozen=True)
class Arguments:
    """Compiles other widths and batches of `Config()` and `record` for one TPU v5e, which need not be present."""

    results: Path = RESULTS
    """Where estimates are kept, and looked up before compiling."""


def variants() -> Iterator[tuple[str, Config]]:
    """Each variant, with a name that says what is changed."""
    standard, record = Config(), PRESETS["record"]  # the network that `standard` once had, trained by SGD
    yield "standard", standard
    yield "standard, bfloat16", _with_changes(standard, dtype="bfloat16")
    yield "standard, batch 512", _with_changes(standard, batch=512)
    yield "standard, widths 64, 128, 256", _with_changes(standard, widths=(64, 128, 256))
    yield "standard, widths 64, 128, 256, bfloat16", _with_changes(standard, widths=(64, 128, 256), dtype="bfloat16")
    yield (
        "standard, widths 64, 128, 256, bfloat16, batch 512",
        _with_changes(standard, widths=(64, 128, 256), dtype="bfloat16", batch=512),
    )
    yield (
        "standard, widths 128, 128, 256, bfloat16",
        _with_changes(standard, widths=(128, 128, 256), dtype="bfloat16"),
    )
    yield (
        "standard, widths 128, 256, 512, bfloat16",
        _with_changes(standard, widths=(128, 256, 512), dtype="bfloat16"),
    )
    yield "record", record
    yield "record, batch 128", _with_changes(record, batch=128)
    yield "record, batch 1024", _with_changes(record, batch=1024)
    yield (
        "record, widths 128, 128, 256, depths 3, 3, 3",
        _with_changes(record, widths=(128, 128, 256), depths=(3, 3, 3)),
    )
    yield (
        "record, widths 128, 256, 512, depths 2, 2, 2",
        _with_changes(record, widths=(128, 256, 512), depths=(2, 2, 2)),
    )


def _with_changes(
    config: Config,
    widths: Sequence[int] = (),
    depths: Sequence[int] = (),
    dtype: Literal["float32", "bfloat16", ""] = "",
    batch: int = 0,
) -> Config:
    """A configuration with the given changes."""
    model = replace(
        config.model,
        widths=tuple(widths) or config.model.widths,
        depths=tuple(depths) or config.model.depths,
        dtype=dtype or config.model.dtype,
    )
    return replace(config, model=model, train=replace(config.train, batch_size=batch or config.train.batch_size))


def main(arguments: Arguments) -> None:
    """Estimates each variant, and keeps what it finds."""
    records: list[Record] = read_records(arguments.results)
    # The presets themselves have been compiled for the tables.
    cached = [*records, *read_records(ESTIMATES)]
    target = open_target(TARGET)
    for name, config in variants():
        new_record = estimate(target, name, config, "training", cached)
        if new_record is not None:
            print(f"{name}: {new_record['compile_seconds']} s to compile", file=sys.stderr)
            records = merge_record(records, new_record)
            save_records(arguments.results, records)


if __name__ == "__main__":
    run_compiler_script(main, Arguments)
