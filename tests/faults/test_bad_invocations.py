"""Bad invocations: each is refused with exit code 2 and one line on stderr, and leaves no new file behind."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.arguments import ARGUMENT_CASES
from tests.faults.invocations import Refusal, is_refusal, run_in_process, run_in_subprocess
from tests.faults.surroundings import SURROUNDING_CASES

CASES = [*ARGUMENT_CASES, *SURROUNDING_CASES]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> list[Refusal]:
    """The outcome of each case; every sixtieth case, and those that set variables of JAX, run in a subprocess."""
    folder = tmp_path_factory.mktemp("bad")
    runs_in_process = [
        index % 60 > 0 and not any(name.startswith("JAX_") for name in case.environment)
        for index, case in enumerate(CASES)
    ]
    refusals_in_process = [
        run_in_process(case, folder / str(i)) if runs_in_process[i] else None for i, case in enumerate(CASES)
    ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = {
            i: pool.submit(run_in_subprocess, case, folder / str(i))
            for i, case in enumerate(CASES)
            if not runs_in_process[i]
        }
    return [refusal or futures[i].result() for i, refusal in enumerate(refusals_in_process)]


def test_at_least_130_distinct_cases() -> None:
    assert len({(case.command, case.arguments, case.prepare, *case.environment.items()) for case in CASES}) >= 130


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: CASES[index].arguments[:60] or "none")
def test_bad_invocation_is_refused_in_one_line_and_leaves_no_files(refusals: list[Refusal], index: int) -> None:
    case, refusal = CASES[index], refusals[index]
    assert is_refusal(case, refusal), refusal


def test_parse_errors_and_invalid_values_are_reported_together(refusals: list[Refusal]) -> None:
    case_index = next(index for index, case in enumerate(CASES) if "rmsprop --lr" in case.arguments)
    assert all(word in refusals[case_index].stderr for word in ("--train.epochs", "rmsprop", "--lr", "--model.dropout"))


def test_all_invalid_values_are_reported_together(refusals: list[Refusal]) -> None:
    case_index = next(index for index, case in enumerate(CASES) if "--optim.momentum 2" in case.arguments)
    assert all(
        flag in refusals[case_index].stderr for flag in ("--train.epochs", "--model.dropout", "--optim.momentum")
    )
