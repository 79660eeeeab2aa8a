"""What devices and processes cannot share is refused with what they can."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from fmnist_jax.config.parallelism import problems, sharing_problems
from fmnist_jax.config.schema import Config, ParallelConfig, PopulationConfig, TrainConfig


def of(**parallel: Any) -> list[str]:
    return list(problems(Config(parallel=ParallelConfig(**parallel))))


def test_the_default_and_whole_descriptions_of_processes_are_accepted() -> None:
    assert of() == of(distributed=True) == []
    assert of(distributed=True, coordinator="node-0:1234", processes=2, process_id=1) == []
    assert of(distributed=True, coordinator="[::1]:1234", processes=2, process_id=0) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"processes": 2},
            "--parallel.processes 2 cannot be used by a single process: add --parallel.distributed",
        ),
        ({"process_id": 0}, "--parallel.process-id 0 cannot be used by a single process"),
        (
            {"distributed": True, "processes": 2},
            "several processes need more than --parallel.processes 2: give --parallel.coordinator, ",
        ),
        (
            {"distributed": True, "processes": 2, "process_id": 2, "coordinator": "a:1"},
            r"--parallel.process-id is 2, but there are 2 processes: choose a value in [0, 1]",
        ),
        ({"distributed": True, "processes": 2, "process_id": 1, "coordinator": "a"}, "'a': give the first process's "),
        ({"distributed": True, "processes": 2, "process_id": 1, "coordinator": ":80"}, "':80': give the first "),
        ({"distributed": True, "processes": 2, "process_id": 1, "coordinator": "a:70000"}, "'a:70000': give"),
        ({"axis": "member"}, "--parallel.axis is member, but --population.seeds is 1: choose data, or several"),
        ({"devices": 3}, "--train.batch-size is 128, which 3 devices cannot share evenly: choose 126 or 129, or "),
    ],
)
def test_what_does_not_fit_together_is_named_with_the_remedy(given: dict[str, Any], said: str) -> None:
    (problem,) = of(**given)
    assert said in problem


def test_seeds_beyond_the_largest_are_refused() -> None:
    config = Config(train=TrainConfig(seed=2**32 - 2), population=PopulationConfig(seeds=3))
    (problem,) = problems(config)
    assert f"makes {2**32} the last seed" in problem
    assert not list(problems(replace(config, population=PopulationConfig(seeds=2))))


@given(st.integers(1, 300), st.integers(1, 40), st.sampled_from(["data", "member"]))
def test_what_is_proposed_instead_is_the_nearest_that_divides(whole: int, devices: int, axis: Any) -> None:
    config = Config(
        train=TrainConfig(batch_size=whole),
        population=PopulationConfig(seeds=whole),
        parallel=ParallelConfig(axis=axis),
    )
    found = list(sharing_problems(config, devices))
    assert bool(found) == bool(whole % devices)
    for problem in found:
        sizes = problem.partition(": choose ")[2].partition(", or --parallel.devices ")
        proposed = [int(size) for size in sizes[0].split(" or ")]
        divisible = [size for size in range(1, whole + devices + 1) if size % devices == 0]
        below, above = [s for s in divisible if s < whole][-1:], [s for s in divisible if s > whole][:1]
        assert proposed == [*below, *above]
        fewer = int(sizes[2])
        assert whole % fewer == 0
        assert fewer == max(n for n in range(1, devices) if whole % n == 0)
