"""The quickest of the trials that `make faults` runs, at most a few of each kind."""

from pathlib import Path

import pytest

from tests.faults.harness import Lab
from tests.faults.kinds import TRIALS, Trial, UnavailableError

pytestmark = pytest.mark.slow

_TRIALS = {trial.name: trial for trial in TRIALS}
_QUICK_TRIALS = [
    _TRIALS[name]
    for name in ("the reader of a pipe leaves", "no standard streams at all", "no locks", "no home", "force color")
]


@pytest.mark.parametrize("trial", _QUICK_TRIALS, ids=lambda trial: f"{trial.kind}: {trial.name}")
def test_trial_is_survived(trial: Trial, lab: Lab, tmp_path: Path) -> None:
    try:
        assert trial.survives(lab, tmp_path)
    except UnavailableError as error:
        pytest.skip(f"it {error}")
