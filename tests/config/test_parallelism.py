"""Work that devices and processes cannot share is rejected, and alternatives are proposed."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from fmnist_jax.config.parallelism import problems, sharing_problems
from fmnist_jax.config.schema import Config, ParallelConfig, PopulationConfig, TrainConfig


def problems_of(**parallel: Any) -> list[str]:
    return list(problems(Config(parallel=ParallelConfig(**parallel))))


def test_default_and_complete_process_descriptions_are_accepted() -> None:
    assert problems_of() == problems_of(distributed=True) == []
    assert problems_of(distributed=True, coordinator="node-0:1234", processes=2, process_id=1) == []
    assert problems_of(distributed=True, coordinator="[::1]:1234", processes=2, process_id=0) == []


@pytest.mark.parametrize(
    ("options", "expected"),
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
def test_conflicting_options_are_reported_with_a_remedy(options: dict[str, Any], expected: str) -> None:
    (problem,) = problems_of(**options)
    assert expected in problem


def test_seeds_beyond_the_largest_are_rejected() -> None:
    config = Config(train=TrainConfig(seed=2**32 - 2), population=PopulationConfig(seeds=3))
    (problem,) = problems(config)
    assert f"makes {2**32} the last seed" in problem
    assert not list(problems(replace(config, population=PopulationConfig(seeds=2))))


@given(st.integers(1, 300), st.integers(1, 40), st.sampled_from(["data", "member"]))
def test_proposed_sizes_are_the_nearest_ones_that_devices_can_share(total: int, devices: int, axis: Any) -> None:
    config = Config(
        train=TrainConfig(batch_size=total),
        population=PopulationConfig(seeds=total),
        parallel=ParallelConfig(axis=axis),
    )
    found_problems = list(sharing_problems(config, devices))
    assert bool(found_problems) == bool(total % devices)
    for problem in found_problems:
        sizes = problem.partition(": choose ")[2].partition(", or --parallel.devices ")
        proposed = [int(size) for size in sizes[0].split(" or ")]
        divisible = [size for size in range(1, total + devices + 1) if size % devices == 0]
        below, above = [s for s in divisible if s < total][-1:], [s for s in divisible if s > total][:1]
        assert proposed == [*below, *above]
        fewer = int(sizes[2])
        assert total % fewer == 0
        assert fewer == max(n for n in range(1, devices) if total % n == 0)
