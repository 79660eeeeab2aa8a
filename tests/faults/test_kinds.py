"""The quicker of the trials that `make faults` makes, one or two of a kind."""

from pathlib import Path

import pytest

from tests.faults.harness import Lab
from tests.faults.kinds import TRIALS, Trial, UnavailableError

_SLOW = {
    "standard output on a full disk",
    "a bar on a full disk",
    "both streams on a full disk",
    "the run saves and goes on later",
    "writing in a block that fails",
    "force color",
    "under nohup",
    "writing",
    "training interrupted",
    "tty compatible",
    "they are left alone",
    "evaluate and report find them",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.mark.parametrize(
    "trial", [trial for trial in TRIALS if trial.name not in _SLOW], ids=lambda trial: f"{trial.kind}: {trial.name}"
)
def test_it_is_survived(trial: Trial, lab: Lab, tmp_path: Path) -> None:
    try:
        assert trial.survives(lab, tmp_path)
    except UnavailableError as error:
        pytest.skip(f"it {error}")
