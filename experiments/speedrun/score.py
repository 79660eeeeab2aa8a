"""Summarises the seeds of an entry."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scipy import stats

MIN_SEEDS = 10
"""The fewest runs whose mean accuracy may count as reaching the target."""


class Summary(NamedTuple):
    """Seconds, and accuracies as shares of 1, over the seeds."""

    seeds: int
    accuracy_mean: float
    accuracy_deviation: float | None
    """Standard deviation; None for a single run."""
    accuracy_margin: float | None
    """Half of the 95 % interval of the mean, by Student's t; None for a single run."""
    seconds_mean: float
    seconds_median: float
    seconds_deviation: float | None
    reached: bool
    """Whether the mean accuracy is at least the target, over as many seeds as the rules require."""


def summarize(runs: Sequence[Mapping[str, Any]], target: str) -> Summary:
    """Summarises runs, each with its `accuracy` and `seconds`.

    Args:
      runs: one or more.
      target: accuracy in per cent.
    """
    accuracies, seconds = ([run[name] for run in runs] for name in ("accuracy", "seconds"))
    mean, is_repeated = statistics.mean(accuracies), len(runs) > 1
    deviation = statistics.stdev(accuracies) if is_repeated else None
    return Summary(
        seeds=len(runs),
        accuracy_mean=mean,
        accuracy_deviation=deviation,
        accuracy_margin=_margin(deviation, len(runs)) if deviation is not None else None,
        seconds_mean=statistics.mean(seconds),
        seconds_median=statistics.median(seconds),
        seconds_deviation=statistics.stdev(seconds) if is_repeated else None,
        reached=len(runs) >= MIN_SEEDS and mean >= float(target) / 100,
    )


def _margin(deviation: float, count: int) -> float:
    return float(stats.t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)


def _format_mean(summary: Summary) -> str:
    margin = "" if summary.accuracy_margin is None else f" ± {100 * summary.accuracy_margin:.3f}"
    return f"the mean of {summary.seeds} seed{'s' * (summary.seeds > 1)} is {100 * summary.accuracy_mean:.3f}{margin} %"


def describe_held_out(summary: Summary, held_out: int) -> str:
    """States the mean accuracy on `held_out` held-out images, which decides nothing about a target."""
    return f"HELD OUT: {_format_mean(summary)} of {held_out:,} training images; {summary.seconds_median:.1f} s (median)"


def verdict(summary: Summary, target: str) -> str:
    """States whether the target is reached."""
    mean = _format_mean(summary)
    if summary.reached:
        return f"REACHED: {mean}, the target {target} %; {summary.seconds_median:.1f} s (median)"
    if summary.seeds < MIN_SEEDS:
        return f"NOT AN ENTRY YET: {mean}, the target {target} %, and the rules ask for {MIN_SEEDS} seeds"
    return f"NOT REACHED: {mean}, the target {target} %"
