"""The figure of what compilers expect from more chips: step time against chips, on log-log axes."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from experiments import figures
from experiments.accelerators.tables import milliseconds
from fmnist_jax import PRESETS


def curves(records: Sequence[Mapping[str, Any]], kind: str) -> dict[str, list[tuple[int, float]]]:
    """For each preset, the estimated milliseconds of a training step on each number of chips of a kind."""
    points_by_preset: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        step_ms = milliseconds(record)
        if record["part"] == "training" and record["target"].startswith(f"{kind}:") and step_ms is not None:
            points_by_preset.setdefault(record["preset"], []).append((record["chips"], step_ms))
    return {preset: sorted(points_by_preset[preset]) for preset in PRESETS if preset in points_by_preset}


def figure(records: Sequence[Mapping[str, Any]], kind: str = "v5e") -> Figure:
    """Plots estimated step time against chips at the preset's batch, each curve with the line of perfect scaling."""
    fig = Figure(figsize=(7, 4.6), layout="constrained")
    axes = fig.subplots()
    lines = curves(records, kind)
    batches = {record["preset"]: record["batch_size"] for record in records if record["part"] == "training"}
    colours, markers = figures.COLOURS[: len(lines)], figures.MARKERS[: len(lines)]
    for (preset, points), colour, marker in zip(lines.items(), colours, markers, strict=True):
        chips, times = [count for count, _ in points], [time for _, time in points]
        label = f"{preset}, {batches[preset]} images"
        axes.loglog(chips, times, label=label, color=colour, marker=marker)
        axes.loglog(chips, [times[0] * chips[0] / count for count in chips], color=colour, linestyle="--", alpha=0.4)
    counts = sorted({count for points in lines.values() for count, _ in points})
    figures.label_values(axes.xaxis, counts)
    figures.label_decades(axes.yaxis)
    axes.set_xlabel(f"TPU {kind} chips")
    axes.set_ylabel("estimated milliseconds a training step")
    axes.set_title("A compiler's estimate, not a measurement; exchanges between chips are not in it", fontsize=10)
    axes.grid(which="both", alpha=0.3)
    axes.plot([], [], color=figures.GREY, linestyle="--", label="N times as fast on N chips")
    axes.legend()
    return fig
