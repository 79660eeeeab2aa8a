"""Timing of many members against one."""

from dataclasses import replace

import pytest

from experiments.benchmark import population
from fmnist_jax import PRESETS, ModelConfig


def test_timing_ratios_are_taken_in_each_round() -> None:
    timings = population.Timings([1.0, 2.0, 1.0], [8.0, 18.0, 7.0])
    assert timings.ratios == [8.0, 9.0, 7.0]
    arguments = population.Arguments(steps=10)
    assert population.row("fast", timings, arguments) == ("fast", "100.0", "800.0", "8.00 (7.00 to 9.00)")


def test_measure_times_one_model_and_its_population(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model = ModelConfig(family="plain", widths=(2,), depths=(1,))
    few_images = replace(PRESETS["demo"].data, synthetic_train_size=200, synthetic_test_size=10, validation_size=0)
    monkeypatch.setattr(population, "PRESETS", {"demo": replace(PRESETS["demo"], data=few_images, model=tiny_model)})
    timings = population.measure("demo", population.Arguments(members=2, steps=1, rounds=2))
    assert len(timings.one) == len(timings.members) == 2
    assert min(timings.one + timings.members) > 0
