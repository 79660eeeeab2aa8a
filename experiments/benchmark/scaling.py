"""How training time grows with images, batch size and width: measured by the benchmark, drawn on log-log axes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from matplotlib.figure import Figure

from experiments import figures
from experiments.benchmark import jax_side
from fmnist_jax import Config

FACTORS = (1, 2, 4, 8)
_AXES = {"images": "images trained on", "batch_size": "batch size", "width": "width, times that of the preset"}


def variants(config: Config) -> dict[str, list[tuple[float, Config, int]]]:
    """For each quantity: its values, the configuration with that value, and how many steps to time."""
    batch = config.train.batch_size
    return {
        "images": [(30 * factor * batch, config, 30 * factor) for factor in FACTORS],
        "batch_size": [
            (size, replace(config, train=replace(config.train, batch_size=size)), max(1, 30 * batch // size))
            for size in (batch // 4, batch // 2, batch, batch * 2)
        ],
        "width": [
            (factor / 4, replace(config, model=replace(config.model, widths=_scale_widths(config, factor / 4))), 30)
            for factor in FACTORS
        ],
    }


def _scale_widths(config: Config, factor: float) -> tuple[int, ...]:
    return tuple(round(width * factor) for width in config.model.widths)


def time_steps(config: Config, steps: int, repeats: int) -> list[float]:
    """Seconds for `steps` steps, measured `repeats` times."""
    return [
        steps * config.train.batch_size / jax_side.train_rate(config, "preset", False, steps) for _ in range(repeats)
    ]


def figure(measured: Mapping[str, Sequence[tuple[float, float, float]]]) -> Figure:
    """Plots time against each quantity, with lines of proportional growth in images and square growth in width.

    Args:
      measured: for each quantity, tuples of its value, the seconds and the images in those seconds.
    """
    fig = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (name, rows) in zip(fig.subplots(1, len(measured)), measured.items(), strict=True):
        values = [value for value, _, _ in rows]
        per_image = name != "images"
        times = [1e3 * time / images if per_image else time for _, time, images in rows]
        axes.loglog(values, times, label="measured", color=figures.COLOURS[0], marker="o")
        if name != "batch_size":
            power = 1 if name == "images" else 2
            line = [times[0] * (value / values[0]) ** power for value in values]
            axes.loglog(
                values, line, color=figures.GREY, linestyle="--", label="proportional" if power == 1 else "square"
            )
        figures.label_values(axes.xaxis, values)
        low, high = min(times), max(times)
        centre, factor = (low * high) ** 0.5, max(high / low, 10) ** 0.5 * 1.3
        axes.set_ylim(centre / factor, centre * factor)  # a decade at least, so that noise does not look like a trend
        figures.label_decades(axes.yaxis)
        axes.set_xlabel(_AXES[name])
        axes.set_ylabel("milliseconds an image" if per_image else "seconds")
        axes.grid(which="both", alpha=0.3)
        axes.legend()
    return fig
