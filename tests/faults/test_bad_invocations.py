"""Bad invocations: each is refused by exit code 2 and one line on stderr, and leaves no new file behind."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.arguments import ARGUMENTS
from tests.faults.invocations import Refusal, is_refusal, refuse, refuse_here
from tests.faults.surroundings import SURROUNDINGS

CASES = [*ARGUMENTS, *SURROUNDINGS]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> list[Refusal]:
    """What comes of each case: of every sixtieth, and where JAX is told how to start, in a process of its own."""
    folder = tmp_path_factory.mktemp("bad")
    here = [
        index % 60 > 0 and not any(name.startswith("JAX_") for name in case.environment)
        for index, case in enumerate(CASES)
    ]
    found = [refuse_here(case, folder / str(i)) if here[i] else None for i, case in enumerate(CASES)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        others = {i: pool.submit(refuse, case, folder / str(i)) for i, case in enumerate(CASES) if not here[i]}
    return [refusal or others[i].result() for i, refusal in enumerate(found)]


def test_there_are_at_least_a_hundred_and_thirty_different_cases() -> None:
    assert len({(case.command, case.arguments, case.prepare, *case.environment.items()) for case in CASES}) >= 130


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: CASES[index].arguments[:60] or "none")
def test_a_bad_invocation_is_refused_in_one_line_and_leaves_nothing(refusals: list[Refusal], index: int) -> None:
    case, refusal = CASES[index], refusals[index]
    assert is_refusal(case, refusal), refusal


def test_values_of_every_kind_that_are_wrong_are_named_at_once(refusals: list[Refusal]) -> None:
    several = next(index for index, case in enumerate(CASES) if "rmsprop --lr" in case.arguments)
    assert all(word in refusals[several].errors for word in ("--train.epochs", "rmsprop", "--lr", "--model.dropout"))


def test_several_problems_are_named_at_once(refusals: list[Refusal]) -> None:
    several = next(index for index, case in enumerate(CASES) if "--optim.momentum 2" in case.arguments)
    assert all(flag in refusals[several].errors for flag in ("--train.epochs", "--model.dropout", "--optim.momentum"))
