"""How does the error fall with the number of training images? `python -m experiments.research.sizes`.

Trains the same network on class-balanced subsets, each size with several seeds, which also select the subset, and for
the same number of steps, so that sizes differ in images and not in computation. Fits error = a * images^-b by least
squares on the logarithms, as Hestness et al. 2017 (arXiv:1712.00409) do; the interval of b is the middle 95 % of
bootstrap samples (Efron 1979) of the test images, common to all sizes, and of the seeds of each size.

Measured with 64,000 images seen and three seeds a size (481 s): the error falls from 21.2 % with 250 images to 9.9 %
with 16,000, as 0.59 * images^-0.190 to within 5 %, with the exponent in [0.177, 0.202]. Ten times the images leave 65 %
of the errors. The last point lies above the line: 16,000 images are seen for only four epochs, too few to make full use
of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments import figures
from experiments.research import study
from experiments.script import run_script
from fmnist_jax import FmnistError, split


@dataclass(frozen=True)
class Arguments(study.NetworkArguments, study.ScoredArguments):
    """How the error falls with the number of training images."""

    sizes: tuple[int, ...] = (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000)
    """Numbers of training images."""
    seeds: int = 3
    seen: int = 64_000
    """Images that each training run sees, with repetition where it has fewer."""
    samples: int = 2_000
    """Bootstrap samples."""


_QUICK = {"sizes": (100, 300), "seeds": 2, "seen": 1_200, "samples": 50}


class Law(NamedTuple):
    """error = factor * images^-exponent."""

    factor: float
    exponent: float


def fit(sizes: np.ndarray, errors: np.ndarray) -> Law:
    """Fits a power law to errors f64[S] of the sizes [S], as a line through their logarithms."""
    slope, intercept = np.polyfit(np.log(sizes), np.log(errors), 1)
    return Law(float(np.exp(intercept)), float(-slope))


def bootstrap(sizes: np.ndarray, wrong: np.ndarray, samples: int, seed: int = 0) -> np.ndarray:
    """Fits the exponent to bootstrap samples of the test images and of the seeds.

    Args:
      sizes: [S].
      wrong: bool[S, seeds, N], whether each test image is misclassified.
      samples: how many to take.
      seed: of the random numbers.

    Returns:
      f64[samples].
    """
    rng = np.random.default_rng(seed)
    size_count, seed_count, test_count = wrong.shape
    errors = np.empty((samples, size_count))
    for sample in range(samples):
        counts = np.bincount(rng.integers(0, test_count, test_count), minlength=test_count)
        seed_samples = rng.integers(0, seed_count, (size_count, seed_count))
        errors[sample] = np.take_along_axis(wrong @ counts / test_count, seed_samples, 1).mean(1)
    return np.array([fit(sizes, row).exponent for row in errors])


def measure(arguments: Arguments) -> dict[str, Any]:
    """Trains every size, and fits the law."""
    if len(set(arguments.sizes)) < 2:
        raise FmnistError(f"--sizes is {arguments.sizes[0]}: give two or more, through which a law can be fitted")
    train, _, test = study.load_images(arguments)
    wrong = np.empty((len(arguments.sizes), arguments.seeds, len(test)), bool)
    for index, size in enumerate(arguments.sizes):
        train_one = study.make_training(study.recipe_config(arguments.widths, size, round(arguments.seen / size)))
        for seed in range(arguments.seeds):
            subset = study.on_device(split(train, size, seed)[1])
            members = train_one(jax.random.split(jax.random.key(seed), 1), subset)
            wrong[index, seed] = members.logits(test.images)[0].argmax(-1) != test.labels
        print(f"{size:,} images: error {wrong[index].mean():.2%}", flush=True)
    sizes, errors = np.array(arguments.sizes), wrong.mean(-1)
    law = fit(sizes, errors.mean(1))
    low, high = np.quantile(bootstrap(sizes, wrong, arguments.samples), (0.025, 0.975))
    print(f"error = {law.factor:.2f} * images^-{law.exponent:.3f}, exponent in [{low:.3f}, {high:.3f}]")
    return {
        "sizes": list(arguments.sizes),
        "errors": errors.tolist(),
        **law._asdict(),
        "exponent_interval_95": [float(low), float(high)],
        "largest_misfit": float(np.abs(errors.mean(1) / (law.factor * sizes**-law.exponent) - 1).max()),
    }


def figure(results: Mapping[str, Any]) -> Figure:
    """Plots the errors and the law on logarithmic axes."""
    fig, (axes,) = figures.make_subplots(1, 6.0, 4.0)
    sizes, errors = np.array(results["sizes"]), 100 * np.array(results["errors"])
    low, high = results["exponent_interval_95"]
    name = f"{results['factor']:.2f} · images$^{{-b}}$, b = {results['exponent']:.3f} ({low:.3f} to {high:.3f})"
    axes.loglog(
        sizes, 100 * results["factor"] * sizes ** -results["exponent"], color=figures.GREY, linestyle="--", label=name
    )
    axes.loglog(sizes, errors, color=figures.COLOURS[0], marker="o", markersize=3, linestyle="none", alpha=0.5)
    axes.loglog(
        sizes, errors.mean(1), color=figures.COLOURS[0], marker="o", linestyle="none", label="mean of the seeds"
    )
    figures.label_values(axes.xaxis, sizes, "{:,}", fontsize=8)
    ticks = [
        tick for tick in (5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 60, 80) if errors.min() * 0.9 < tick < errors.max() * 1.1
    ]
    figures.label_values(axes.yaxis, ticks)
    figures.describe(axes, "Test error against training images", "training images", "test error (%)")
    return fig


def main(arguments: Arguments) -> dict[str, Any]:
    return study.run_study("sizes", arguments, _QUICK, measure, figure)


if __name__ == "__main__":
    run_script(main, Arguments)
