"""Markdown tables of what compilers expect, made from records alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments import markdown
from experiments.accelerators.chips import CHIPS, chip_of
from experiments.accelerators.costs import ROLES
from experiments.accelerators.programs import PARTS
from experiments.records import short
from fmnist_jax import PRESETS

Record = Mapping[str, Any]

NOTHING = "*Nothing has been compiled yet.*"
CAPTION = (
    "Estimates (est.) of XLA's compilers for chips that were not there: no figure in any column is a measurement, and "
    "each is of one chip. The time is the sum of the cycles that XLA expects of each operation, at the chip's clock; "
    "XLA says nothing of what gathers, copies and exchanges between chips take, and nothing of times on a GPU."
)
_UNKNOWN = "n/a"


def milliseconds(record: Record) -> float | None:
    """XLA's estimate of the time of one iteration, at the chip's clock; None if there is none."""
    return 1e3 * record["cycles"] / chip_of(record["target"]).clock if record["cycles"] else None


def share_of_peak(record: Record) -> float | None:
    """The operations over those that the matrix units could have done in the time; None if no time is known."""
    if not record["cycles"]:
        return None
    return record["flops"] / record["cycles"] / chip_of(record["target"]).flops_a_cycle


def filled(record: Record, role: str, channels: tuple[int, int] | None = None) -> float | None:
    """The share of the matrix units that convolutions of a role, or of a role and channels, fill while they run."""
    if record["target"].partition(":")[0] not in CHIPS:
        return None
    found = [
        each for each in record["convolutions"] if each["role"] == role and channels in (None, tuple(each["channels"]))
    ]
    cycles = sum(each["cycles"] for each in found)
    if not cycles:
        return None
    return sum(each["flops"] for each in found) / cycles / chip_of(record["target"]).flops_a_cycle


def table(records: Sequence[Record], targets: Sequence[str] = ()) -> str:
    """A row for each preset, part and target; for all targets, or for those named."""
    chosen = sorted((each for each in records if not targets or each["target"] in targets), key=_order)
    if not chosen:
        return NOTHING
    headings = (
        *("preset", "part", "images", "chips"),
        *("est. GFLOP", "est. GB", "est. temporary MB", "est. ms", "est. share of peak"),
        "est. matrix unit filled: forward / image gradient / kernel gradient",
        "est. exchanges",
    )
    rows = [
        (
            *(each["preset"], each["part"], f"{_images(each):,}", each["target"].replace(":", " ")),
            *(_number(each["flops"], 1e9, "{:,.1f}"), _number(each["bytes"], 1e9, "{:,.2f}")),
            *(f"{each['temporary_bytes'] / 1e6:,.1f}", _number(milliseconds(each), 1, "{:,.2f}")),
            *(_percentage(share_of_peak(each)), " / ".join(_percentage(filled(each, role)) for role in ROLES)),
            _exchanges(each["collectives"]),
        )
        for each in chosen
    ]
    return "\n\n".join([CAPTION, markdown.table(headings, rows), origin(chosen)])


def layers_table(records: Sequence[Record], target: str = "v5e:1x1") -> str:
    """How much of the matrix units each width of convolution fills, for all presets, on one chip."""
    training = sorted((each for each in records if _is_training(each, target)), key=_order)
    if not training:
        return NOTHING
    rows = [
        (
            *(each["preset"], f"{_images(each) // each['chips']:,}", f"{channels[0]} to {channels[1]}"),
            *(_percentage(filled(each, role, channels)) for role in ROLES),
        )
        for each in training
        for channels in sorted({tuple(found["channels"]) for found in each["convolutions"]})
    ]
    headings = ("preset", "images a chip", "channels", *(f"est. {role}" for role in ROLES))
    return markdown.table(headings, rows)


def work_table(records: Sequence[Record], target: str = "v5e:1x1") -> str:
    """The estimated cycles of a training step by purpose, on one chip."""
    training = sorted((each for each in records if _is_training(each, target)), key=_order)
    if not training:
        return NOTHING
    kinds = (*ROLES, "other forward", "other backward", "rest")
    rows = [
        (
            each["preset"],
            _number(milliseconds(each), 1, "{:,.2f}"),
            *(_percentage(each["cycles_by_work"].get(kind, 0) / each["cycles"]) for kind in kinds),
        )
        for each in training
    ]
    return markdown.table(("preset", "est. ms", *(f"est. {kind}" for kind in kinds)), rows)


def variants_table(records: Sequence[Record]) -> str:
    """A row for each variant of a preset, on one chip."""
    if not records:
        return NOTHING
    rows = [
        (
            *(each["preset"], _number(each["flops"], 1e9, "{:,.1f}"), _number(milliseconds(each), 1, "{:,.2f}")),
            _number(1e3 * each["batch_size"] / (milliseconds(each) or 1), 1e3, "{:,.0f}"),
            _number(each["flops"], 1e9 * (milliseconds(each) or 1), "{:,.1f}"),
            *(_percentage(share_of_peak(each)), " / ".join(_percentage(filled(each, role)) for role in ROLES)),
        )
        for each in records
    ]
    headings = (
        *("variant", "est. GFLOP", "est. ms a step", "est. thousand images/s", "est. TFLOP/s", "est. share of peak"),
        "est. matrix unit filled: forward / image gradient / kernel gradient",
    )
    return "\n\n".join([markdown.table(headings, rows), origin(records)])


def chips_table() -> str:
    """The published figures of each chip, and the clock derived from them."""
    rows = [
        (
            *(each.name, f"{each.flops / 1e12:.0f}", f"{each.flops_a_cycle:,}", f"{each.clock / 1e9:.2f}"),
            *(f"{each.memory_bandwidth / 1e9:,.0f}", f"[Google Cloud]({each.source})"),
        )
        for each in CHIPS.values()
    ]
    headings = ("chip", "peak, TFLOP/s in bfloat16", "operations a cycle", "clock, GHz", "memory, GB/s", "source")
    return markdown.table(headings, rows)


def origin(records: Sequence[Record]) -> str:
    """States compiler versions and commits, for whoever wants to repeat it."""
    versions = sorted({f"{name} {each}" for record in records for name, each in record["versions"].items()})
    commits = sorted({short(record["commit"] or "unknown") for record in records})
    return f"Compiled by {', '.join(versions)} at commit {', '.join(commits)}."


def _is_training(record: Record, target: str) -> bool:
    return record["target"] == target and record["part"] == "training"


def _order(record: Record) -> tuple[Any, ...]:
    kind = record["target"].partition(":")[0]
    kinds = (*CHIPS, "h100")
    return PARTS.index(record["part"]), list(PRESETS).index(record["preset"]), kinds.index(kind), record["chips"]


def _images(record: Record) -> int:
    """Images of one iteration, on all chips."""
    return -(-record["batch_size"] // record["chips"]) * record["chips"]


def _number(value: float | None, unit: float, form: str) -> str:
    return form.format(value / unit) if value else _UNKNOWN


def _percentage(value: float | None) -> str:
    return f"{100 * value:.0f}%" if value is not None else _UNKNOWN


def _exchanges(collectives: Mapping[str, Mapping[str, int]]) -> str:
    """The collectives by kind, with their bytes."""
    parts = [f"{each['count']} {kind}, {each['bytes'] / 1e6:,.2f} MB" for kind, each in sorted(collectives.items())]
    return "; ".join(parts) or "none"
