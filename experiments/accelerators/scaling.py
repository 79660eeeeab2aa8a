"""Where more chips stop paying, by formulas with sources: `python -m experiments.accelerators.scaling [--write]`.

It computes `scaling.md` from the compilers' estimates in `estimates.json` and `variants.json`, and compiles nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tyro

from experiments import markdown
from experiments.accelerators.chips import CHIPS, H100_MEMORY_BANDWIDTH
from experiments.accelerators.estimate import FOLDER, read_records
from experiments.accelerators.tables import milliseconds, origin_note
from experiments.script import run_script
from fmnist_jax import PRESETS, FmnistError

TEMPLATE = FOLDER / "scaling.template.md"
OUT = FOLDER / "scaling.md"

Record = Mapping[str, Any]
Points = Sequence[tuple[float, float]]
"""Images per chip and seconds per step, ascending."""


@dataclass(frozen=True)
class Network:
    """How chips exchange data; `scaling.template.md` gives the sources."""

    name: str
    chips: int
    bandwidth: float
    """W, bytes a second at which a chip's part of an all-reduce is transferred."""
    latency: tuple[float, float]
    """The least and the most seconds that an all-reduce of almost no data takes."""
    relative_speed: float = 1.0
    """How many times as fast as a v5e each chip computes."""


_LINK_BANDWIDTH = 45e9  # bytes a second in one direction on a link of a v5e
_HOP_LATENCY = (1e-6, 8e-6 / 3)  # seconds on a link with almost no data: typical, and as in a profile of three hops


def torus(x: int, y: int) -> Network:
    """A slice of v5e; its axes are rings only from 16 chips up."""
    ring = min(x, y) >= 16
    hops = (x + y) // 2 if ring else x - 1 + y - 1
    # Along both axes at once, and in both directions on a ring. There and back: chips first reduce, then broadcast.
    bandwidth = 2 * _LINK_BANDWIDTH * (2 if ring else 1)
    return Network(f"v5e {x}x{y}", x * y, bandwidth, (2 * hops * _HOP_LATENCY[0], 2 * hops * _HOP_LATENCY[1]))


NETWORKS = (
    *(torus(2, 4), torus(8, 8), torus(16, 16)),
    Network("8 H100", 8, 370e9, (7e-6, 25e-6), H100_MEMORY_BANDWIDTH / CHIPS["v5e"].memory_bandwidth),
)


@dataclass(frozen=True)
class Exchange:
    """What the chips exchange in a step."""

    count: int
    """n, the number of collectives."""
    bytes: int
    """G, the bytes of their results."""


def step_points(records: Sequence[Record], preset: str) -> Points:
    """The expected seconds of a step on one v5e, by its images, from all compiled batches and chip counts."""
    model, seconds_by_batch = PRESETS[preset].model, {}
    for record in records:
        is_training = record["preset"].split(",")[0] == preset and record["part"] == "training"
        is_same_network = tuple(record["widths"]) == model.widths and _is_plain(record["preset"])
        if is_training and is_same_network and record["target"].startswith("v5e:"):
            seconds_by_batch[record["batch_size"] / record["chips"]] = (milliseconds(record) or math.nan) / 1e3
    return sorted(seconds_by_batch.items())


def preset_batch_size(records: Sequence[Record], preset: str) -> int | None:
    """The batch that a preset had when it was compiled for one v5e; None if it is not compiled yet."""
    for record in records:
        if (record["preset"], record["part"], record["target"]) == (preset, "training", "v5e:1x1"):
            return int(record["batch_size"])
    return None


def _is_plain(name: str) -> bool:
    """Whether a variant differs from its preset in nothing but the batch."""
    return all(part.strip().startswith("batch") for part in name.split(",")[1:])


def step_exchange(records: Sequence[Record], preset: str) -> Exchange | None:
    """What is exchanged in a step on eight chips; None if that is not compiled yet."""
    for record in records:
        if (record["preset"], record["part"], record["target"]) == (preset, "training", "v5e:2x4"):
            kinds = record["collectives"].values()
            return Exchange(sum(totals["count"] for totals in kinds), sum(totals["bytes"] for totals in kinds))
    return None


def single_chip_seconds(images: float, points: Points) -> float:
    """t(b), seconds of one chip for b images, interpolated linearly between known points on log-log axes.

    Below the smallest known batch it is that batch's time; above the largest it is proportional to the images.
    """
    if images <= points[0][0]:
        return points[0][1]
    if images >= points[-1][0]:
        return points[-1][1] * images / points[-1][0]
    upper = next(index for index, (batch, _) in enumerate(points) if batch >= images)
    (b0, t0), (b1, t1) = points[upper - 1], points[upper]
    fraction = math.log(images / b0) / math.log(b1 / b0)
    return t0 * (t1 / t0) ** fraction


def parallel_seconds(batch: float, network: Network, exchange: Exchange, points: Points, latency: float) -> float:
    """T(N, B) = t(B / N) + 2 G / W + n alpha(N), seconds, assuming no overlap."""
    compute_seconds = single_chip_seconds(batch / network.chips, points) / network.relative_speed
    return compute_seconds + 2 * exchange.bytes / network.bandwidth + exchange.count * latency


def speedup(batch: float, network: Network, exchange: Exchange, points: Points) -> tuple[float, float]:
    """The speed-up over one chip with the same batch, at the highest and at the lowest latency."""
    single_chip = single_chip_seconds(batch, points) / network.relative_speed
    low, high = network.latency
    return tuple(single_chip / parallel_seconds(batch, network, exchange, points, latency) for latency in (high, low))  # type: ignore[return-value]


def min_batch_size(network: Network, exchange: Exchange, points: Points, latency: float) -> int | None:
    """The smallest power-of-two batch with which N chips are at least N / 2 times as fast as one; None beyond 2**20."""
    for power in range(int(math.log2(network.chips)), 21):
        batch = 2**power
        single_chip = single_chip_seconds(batch, points) / network.relative_speed
        if single_chip / parallel_seconds(batch, network, exchange, points, latency) >= network.chips / 2:
            return batch
    return None


def render_page(records: Sequence[Record], template: str) -> str:
    """The whole of `scaling.md`.

    Raises:
      FmnistError: `record` has not been compiled for eight v5e.
    """
    # Without one chip's time for the whole batch there is nothing to compare against.
    has_own_batch = {name: preset_batch_size(records, name) in dict(step_points(records, name)) for name in PRESETS}
    presets = [name for name in PRESETS if has_own_batch[name] and step_exchange(records, name)]
    exchange = step_exchange(records, "record")
    if exchange is None:
        raise FmnistError("there is no estimate of record on v5e:2x4: run experiments.accelerators.estimate first")
    network = NETWORKS[1]
    latencies = [f"{1e3 * exchange.count * latency:.1f}" for latency in network.latency]
    sources = [record for record in records if record["part"] == "training" and record["target"].startswith("v5e:")]
    return template.format(
        inputs=_inputs_table(records, presets),
        own=_speedup_table(records, presets),
        needed=_min_batch_table(records, presets),
        networks=_networks_table(),
        memory=f"{NETWORKS[-1].relative_speed:.1f} times",
        record_bytes=f"{2e3 * exchange.bytes / network.bandwidth:.2f}",
        record_latency=" to ".join(latencies),
        origin=origin_note(sources),
    )


def _networks_table() -> str:
    rows = [
        (
            *(network.name, str(network.chips), f"{network.bandwidth / 1e9:.0f}"),
            f"{network.latency[0] * 1e6:.0f} to {network.latency[1] * 1e6:.0f}",
        )
        for network in NETWORKS
    ]
    return markdown.table(("slice", "N", "W, GB/s", "alpha(N), µs (assumed range)"), rows)


def _inputs_table(records: Sequence[Record], presets: Sequence[str]) -> str:
    rows = []
    for preset in presets:
        exchange = step_exchange(records, preset)
        assert exchange is not None
        times = ", ".join(f"{images:g}: {1e3 * seconds:.2f}" for images, seconds in step_points(records, preset))
        rows.append((preset, str(exchange.count), f"{exchange.bytes / 1e6:.2f}", times))
    return markdown.table(("preset", "n (est.)", "G, MB (est.)", "t(b), ms by images a chip (est.)"), rows)


def _speedup_table(records: Sequence[Record], presets: Sequence[str]) -> str:
    rows = []
    for preset in presets:
        exchange, points, batch = (
            step_exchange(records, preset),
            step_points(records, preset),
            preset_batch_size(records, preset),
        )
        assert exchange is not None
        assert batch is not None
        cells = [
            "{:.1f} to {:.1f}".format(*speedup(batch, network, exchange, points))
            if batch % network.chips == 0
            else "n/a"
            for network in NETWORKS
        ]
        rows.append((preset, str(batch), *cells))
    return markdown.table(("preset", "images a step", *(f"{network.name} (est.)" for network in NETWORKS)), rows)


def _min_batch_table(records: Sequence[Record], presets: Sequence[str]) -> str:
    rows = []
    for preset in presets:
        exchange, points = step_exchange(records, preset), step_points(records, preset)
        assert exchange is not None
        cells = []
        for network in NETWORKS:
            batch_sizes = [min_batch_size(network, exchange, points, latency) for latency in network.latency]
            cells.append(
                " to ".join(
                    f"{batch_size:,}" if batch_size else "more than 2^20" for batch_size in dict.fromkeys(batch_sizes)
                )
            )
        rows.append((preset, str(preset_batch_size(records, preset)), *cells))
    return markdown.table(("preset", "its own batch", *(f"{network.name} (est.)" for network in NETWORKS)), rows)


@dataclass(frozen=True)
class Arguments:
    """Prints where more chips stop paying, by formulas with sources, from the compilers' estimates."""

    write: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also write it to scaling.md."""


def render_committed_estimates() -> str:
    """The text from the committed estimates."""
    return render_page(
        [*read_records(FOLDER / "estimates.json"), *read_records(FOLDER / "variants.json")], TEMPLATE.read_text()
    )


def main(arguments: Arguments) -> None:
    """Prints the text, and writes it if asked to."""
    page = render_committed_estimates()
    print(page, end="")
    if arguments.write:
        OUT.write_text(page)


if __name__ == "__main__":
    run_script(main, Arguments)
