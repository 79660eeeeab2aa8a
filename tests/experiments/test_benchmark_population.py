"""The times of many members against one."""

from dataclasses import replace

import pytest

from experiments.benchmark import population
from fmnist_jax import PRESETS, ModelConfig


def test_a_population_is_timed_against_one_model_in_each_round() -> None:
    timed = population.Timed([1.0, 2.0, 1.0], [8.0, 18.0, 7.0])
    assert timed.ratios == [8.0, 9.0, 7.0]
    arguments = population.Arguments(steps=10)
    assert population.row("fast", timed, arguments) == ("fast", "100.0", "800.0", "8.00 (7.00 to 9.00)")


def test_the_times_of_a_population_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = ModelConfig(family="plain", widths=(2,), depths=(1,))
    few = replace(PRESETS["demo"].data, synthetic_train_size=200, synthetic_test_size=10, validation_size=0)
    monkeypatch.setattr(population, "PRESETS", {"demo": replace(PRESETS["demo"], data=few, model=tiny)})
    timed = population.measure("demo", population.Arguments(members=2, steps=1, rounds=2))
    assert len(timed.one) == len(timed.members) == 2
    assert min(timed.one + timed.members) > 0
