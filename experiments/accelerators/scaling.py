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
from experiments.accelerators.estimate import FOLDER, read
from experiments.accelerators.tables import milliseconds, origin
from experiments.script import start
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


_LINK = 45e9  # bytes a second in one direction on a link of a v5e
_HOP = (1e-6, 8e-6 / 3)  # seconds on a link with almost no data: typical, and as in a profile of three hops


def torus(x: int, y: int) -> Network:
    """A slice of v5e; its axes are rings only from 16 chips up."""
    ring = min(x, y) >= 16
    path = (x + y) // 2 if ring else x - 1 + y - 1
    # Along both axes at once, and in both directions on a ring. There and back: chips first reduce, then broadcast.
    bandwidth = 2 * _LINK * (2 if ring else 1)
    return Network(f"v5e {x}x{y}", x * y, bandwidth, (2 * path * _HOP[0], 2 * path * _HOP[1]))


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


def points(records: Sequence[Record], preset: str) -> Points:
    """The expected seconds of a step on one v5e, by its images, from all compiled batches and chip counts."""
    model, found = PRESETS[preset].model, {}
    for record in records:
        of_preset = record["preset"].split(",")[0] == preset and record["part"] == "training"
        same = tuple(record["widths"]) == model.widths and _is_plain(record["preset"])
        if of_preset and same and record["target"].startswith("v5e:"):
            found[record["batch_size"] / record["chips"]] = (milliseconds(record) or math.nan) / 1e3
    return sorted(found.items())


def own_batch(records: Sequence[Record], preset: str) -> int | None:
    """The batch that a preset had when it was compiled for one v5e; None if it is not compiled yet."""
    for record in records:
        if (record["preset"], record["part"], record["target"]) == (preset, "training", "v5e:1x1"):
            return int(record["batch_size"])
    return None


def _is_plain(name: str) -> bool:
    """Whether a variant differs from its preset in nothing but the batch."""
    return all(part.strip().startswith("batch") for part in name.split(",")[1:])


def exchange(records: Sequence[Record], preset: str) -> Exchange | None:
    """What is exchanged in a step on eight chips; None if that is not compiled yet."""
    for record in records:
        if (record["preset"], record["part"], record["target"]) == (preset, "training", "v5e:2x4"):
            kinds = record["collectives"].values()
            return Exchange(sum(each["count"] for each in kinds), sum(each["bytes"] for each in kinds))
    return None


def alone(images: float, known: Points) -> float:
    """t(b), seconds of one chip for b images, interpolated linearly between known points on log-log axes.

    Below the smallest known batch it is that batch's time; above the largest it is proportional to the images.
    """
    if images <= known[0][0]:
        return known[0][1]
    if images >= known[-1][0]:
        return known[-1][1] * images / known[-1][0]
    upper = next(index for index, (batch, _) in enumerate(known) if batch >= images)
    (b0, t0), (b1, t1) = known[upper - 1], known[upper]
    share = math.log(images / b0) / math.log(b1 / b0)
    return t0 * (t1 / t0) ** share


def together(batch: float, network: Network, exchanged: Exchange, known: Points, latency: float) -> float:
    """T(N, B) = t(B / N) + 2 G / W + n alpha(N), seconds, assuming no overlap."""
    compute = alone(batch / network.chips, known) / network.relative_speed
    return compute + 2 * exchanged.bytes / network.bandwidth + exchanged.count * latency


def speed_up(batch: float, network: Network, exchanged: Exchange, known: Points) -> tuple[float, float]:
    """The speed-up over one chip with the same batch, at the highest and at the lowest latency."""
    one = alone(batch, known) / network.relative_speed
    low, high = network.latency
    return tuple(one / together(batch, network, exchanged, known, each) for each in (high, low))  # type: ignore[return-value]


def least_batch(network: Network, exchanged: Exchange, known: Points, latency: float) -> int | None:
    """The smallest power-of-two batch with which N chips are at least N / 2 times as fast as one; None beyond 2**20."""
    for power in range(int(math.log2(network.chips)), 21):
        batch = 2**power
        one = alone(batch, known) / network.relative_speed
        if one / together(batch, network, exchanged, known, latency) >= network.chips / 2:
            return batch
    return None


def text(records: Sequence[Record], template: str) -> str:
    """The whole of `scaling.md`.

    Raises:
      FmnistError: `record` has not been compiled for eight v5e.
    """
    # Without one chip's time for the whole batch there is nothing to compare against.
    whole = {name: own_batch(records, name) in dict(points(records, name)) for name in PRESETS}
    presets = [name for name in PRESETS if whole[name] and exchange(records, name)]
    exchanged = exchange(records, "record")
    if exchanged is None:
        raise FmnistError("there is no estimate of record on v5e:2x4: run experiments.accelerators.estimate first")
    square = NETWORKS[1]
    latencies = [f"{1e3 * exchanged.count * each:.1f}" for each in square.latency]
    used = [each for each in records if each["part"] == "training" and each["target"].startswith("v5e:")]
    return template.format(
        inputs=_inputs(records, presets),
        own=_own(records, presets),
        needed=_needed(records, presets),
        networks=_networks(),
        memory=f"{NETWORKS[-1].relative_speed:.1f} times",
        record_bytes=f"{2e3 * exchanged.bytes / square.bandwidth:.2f}",
        record_latency=" to ".join(latencies),
        origin=origin(used),
    )


def _networks() -> str:
    rows = [
        (
            *(each.name, str(each.chips), f"{each.bandwidth / 1e9:.0f}"),
            f"{each.latency[0] * 1e6:.0f} to {each.latency[1] * 1e6:.0f}",
        )
        for each in NETWORKS
    ]
    return markdown.table(("slice", "N", "W, GB/s", "alpha(N), µs (assumed range)"), rows)


def _inputs(records: Sequence[Record], presets: Sequence[str]) -> str:
    rows = []
    for preset in presets:
        exchanged = exchange(records, preset)
        assert exchanged is not None
        times = ", ".join(f"{images:g}: {1e3 * seconds:.2f}" for images, seconds in points(records, preset))
        rows.append((preset, str(exchanged.count), f"{exchanged.bytes / 1e6:.2f}", times))
    return markdown.table(("preset", "n (est.)", "G, MB (est.)", "t(b), ms by images a chip (est.)"), rows)


def _own(records: Sequence[Record], presets: Sequence[str]) -> str:
    rows = []
    for preset in presets:
        exchanged, known, batch = exchange(records, preset), points(records, preset), own_batch(records, preset)
        assert exchanged is not None
        assert batch is not None
        cells = [
            "{:.1f} to {:.1f}".format(*speed_up(batch, each, exchanged, known)) if batch % each.chips == 0 else "n/a"
            for each in NETWORKS
        ]
        rows.append((preset, str(batch), *cells))
    return markdown.table(("preset", "images a step", *(f"{each.name} (est.)" for each in NETWORKS)), rows)


def _needed(records: Sequence[Record], presets: Sequence[str]) -> str:
    rows = []
    for preset in presets:
        exchanged, known = exchange(records, preset), points(records, preset)
        assert exchanged is not None
        cells = []
        for network in NETWORKS:
            bounds = [least_batch(network, exchanged, known, latency) for latency in network.latency]
            cells.append(" to ".join(f"{each:,}" if each else "more than 2^20" for each in dict.fromkeys(bounds)))
        rows.append((preset, str(own_batch(records, preset)), *cells))
    return markdown.table(("preset", "its own batch", *(f"{each.name} (est.)" for each in NETWORKS)), rows)


@dataclass(frozen=True)
class Arguments:
    """Prints where more chips stop paying, by formulas with sources, from the compilers' estimates."""

    write: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also write it to scaling.md."""


def made() -> str:
    """The text from the committed estimates."""
    return text([*read(FOLDER / "estimates.json"), *read(FOLDER / "variants.json")], TEMPLATE.read_text())


def main(arguments: Arguments) -> None:
    """Prints the text, and writes it if asked to."""
    content = made()
    print(content, end="")
    if arguments.write:
        OUT.write_text(content)


if __name__ == "__main__":
    start(main, Arguments)
