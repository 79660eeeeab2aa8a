"""Markdown tables of what compilers expect, made from records alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments import markdown
from experiments.accelerators.chips import CHIPS, chip_for
from experiments.accelerators.costs import ROLES
from experiments.accelerators.programs import PARTS
from experiments.records import short_commit
from fmnist_jax import PRESETS

Record = Mapping[str, Any]

EMPTY_NOTE = "*Nothing has been compiled yet.*"
CAPTION = (
    "Estimates (est.) of XLA's compilers for chips that were not there: no figure in any column is a measurement, and "
    "each is of one chip. The time is the sum of the cycles that XLA expects of each operation, at the chip's clock; "
    "XLA says nothing of what gathers, copies and exchanges between chips take, and nothing of times on a GPU."
)
_NOT_AVAILABLE = "n/a"


def milliseconds(record: Record) -> float | None:
    """XLA's estimate of the time of one iteration, at the chip's clock; None if there is none."""
    return 1e3 * record["cycles"] / chip_for(record["target"]).clock_hz if record["cycles"] else None


def share_of_peak(record: Record) -> float | None:
    """The operations over those that the matrix units could have done in the time; None if no time is known."""
    if not record["cycles"]:
        return None
    return record["flops"] / record["cycles"] / chip_for(record["target"]).flops_per_cycle


def matrix_unit_fill(record: Record, role: str, channels: tuple[int, int] | None = None) -> float | None:
    """The share of the matrix units that convolutions of a role, or of a role and channels, fill while they run."""
    if record["target"].partition(":")[0] not in CHIPS:
        return None
    convolutions = [
        convolution
        for convolution in record["convolutions"]
        if convolution["role"] == role and channels in (None, tuple(convolution["channels"]))
    ]
    cycles = sum(convolution["cycles"] for convolution in convolutions)
    if not cycles:
        return None
    return (
        sum(convolution["flops"] for convolution in convolutions) / cycles / chip_for(record["target"]).flops_per_cycle
    )


def table(records: Sequence[Record], targets: Sequence[str] = ()) -> str:
    """A row for each preset, part and target; for all targets, or for those named."""
    selected = sorted((record for record in records if not targets or record["target"] in targets), key=_sort_key)
    if not selected:
        return EMPTY_NOTE
    headings = (
        *("preset", "part", "images", "chips"),
        *("est. GFLOP", "est. GB", "est. temporary MB", "est. ms", "est. share of peak"),
        "est. matrix unit filled: forward / image gradient / kernel gradient",
        "est. exchanges",
    )
    rows = [
        (
            *(record["preset"], record["part"], f"{_images_per_step(record):,}", record["target"].replace(":", " ")),
            *(_format_number(record["flops"], 1e9, "{:,.1f}"), _format_number(record["bytes"], 1e9, "{:,.2f}")),
            *(f"{record['temporary_bytes'] / 1e6:,.1f}", _format_number(milliseconds(record), 1, "{:,.2f}")),
            *(
                _format_percentage(share_of_peak(record)),
                " / ".join(_format_percentage(matrix_unit_fill(record, role)) for role in ROLES),
            ),
            _format_collectives(record["collectives"]),
        )
        for record in selected
    ]
    return "\n\n".join([CAPTION, markdown.table(headings, rows), origin_note(selected)])


def layers_table(records: Sequence[Record], target: str = "v5e:1x1") -> str:
    """How much of the matrix units each width of convolution fills, for all presets, on one chip."""
    training_records = sorted((record for record in records if _is_training(record, target)), key=_sort_key)
    if not training_records:
        return EMPTY_NOTE
    rows = [
        (
            *(record["preset"], f"{_images_per_step(record) // record['chips']:,}", f"{channels[0]} to {channels[1]}"),
            *(_format_percentage(matrix_unit_fill(record, role, channels)) for role in ROLES),
        )
        for record in training_records
        for channels in sorted({tuple(convolution["channels"]) for convolution in record["convolutions"]})
    ]
    headings = ("preset", "images a chip", "channels", *(f"est. {role}" for role in ROLES))
    return markdown.table(headings, rows)


def work_table(records: Sequence[Record], target: str = "v5e:1x1") -> str:
    """The estimated cycles of a training step by purpose, on one chip."""
    training_records = sorted((record for record in records if _is_training(record, target)), key=_sort_key)
    if not training_records:
        return EMPTY_NOTE
    kinds = (*ROLES, "other forward", "other backward", "rest")
    rows = [
        (
            record["preset"],
            _format_number(milliseconds(record), 1, "{:,.2f}"),
            *(_format_percentage(record["cycles_by_work"].get(kind, 0) / record["cycles"]) for kind in kinds),
        )
        for record in training_records
    ]
    return markdown.table(("preset", "est. ms", *(f"est. {kind}" for kind in kinds)), rows)


def variants_table(records: Sequence[Record]) -> str:
    """A row for each variant of a preset, on one chip."""
    if not records:
        return EMPTY_NOTE
    rows = [
        (
            *(
                record["preset"],
                _format_number(record["flops"], 1e9, "{:,.1f}"),
                _format_number(milliseconds(record), 1, "{:,.2f}"),
            ),
            _format_number(1e3 * record["batch_size"] / (milliseconds(record) or 1), 1e3, "{:,.0f}"),
            _format_number(record["flops"], 1e9 * (milliseconds(record) or 1), "{:,.1f}"),
            *(
                _format_percentage(share_of_peak(record)),
                " / ".join(_format_percentage(matrix_unit_fill(record, role)) for role in ROLES),
            ),
        )
        for record in records
    ]
    headings = (
        *("variant", "est. GFLOP", "est. ms a step", "est. thousand images/s", "est. TFLOP/s", "est. share of peak"),
        "est. matrix unit filled: forward / image gradient / kernel gradient",
    )
    return "\n\n".join([markdown.table(headings, rows), origin_note(records)])


def chips_table() -> str:
    """The published figures of each chip, and the clock derived from them."""
    rows = [
        (
            *(chip.name, f"{chip.flops / 1e12:.0f}", f"{chip.flops_per_cycle:,}", f"{chip.clock_hz / 1e9:.2f}"),
            *(f"{chip.memory_bandwidth / 1e9:,.0f}", f"[Google Cloud]({chip.source})"),
        )
        for chip in CHIPS.values()
    ]
    headings = ("chip", "peak, TFLOP/s in bfloat16", "operations a cycle", "clock, GHz", "memory, GB/s", "source")
    return markdown.table(headings, rows)


def origin_note(records: Sequence[Record]) -> str:
    """States compiler versions and commits, for whoever wants to repeat it."""
    versions = sorted({f"{name} {version}" for record in records for name, version in record["versions"].items()})
    commits = sorted({short_commit(record["commit"] or "unknown") for record in records})
    return f"Compiled by {', '.join(versions)} at commit {', '.join(commits)}."


def _is_training(record: Record, target: str) -> bool:
    return record["target"] == target and record["part"] == "training"


def _sort_key(record: Record) -> tuple[Any, ...]:
    kind = record["target"].partition(":")[0]
    kinds = (*CHIPS, "h100")
    return PARTS.index(record["part"]), list(PRESETS).index(record["preset"]), kinds.index(kind), record["chips"]


def _images_per_step(record: Record) -> int:
    """Images of one iteration, on all chips."""
    return -(-record["batch_size"] // record["chips"]) * record["chips"]


def _format_number(value: float | None, unit: float, fmt: str) -> str:
    return fmt.format(value / unit) if value else _NOT_AVAILABLE


def _format_percentage(value: float | None) -> str:
    return f"{100 * value:.0f}%" if value is not None else _NOT_AVAILABLE


def _format_collectives(collectives: Mapping[str, Mapping[str, int]]) -> str:
    """The collectives by kind, with their bytes."""
    parts = [
        f"{totals['count']} {kind}, {totals['bytes'] / 1e6:,.2f} MB" for kind, totals in sorted(collectives.items())
    ]
    return "; ".join(parts) or "none"
