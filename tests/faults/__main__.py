"""The long form of the fault tests: `make faults` prints how many cases of each kind a run survived.

Survived means: restarted until it finishes, the run has the state digest, the training loss of every step and the
validation scores of an undisturbed run.
"""

import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tests.faults.arguments import ARGUMENT_CASES
from tests.faults.harness import Lab, damage, damage_cases, kill_at_random, kill_while_saving, read_outcome
from tests.faults.invocations import is_refusal, run_in_subprocess
from tests.faults.kinds import TRIALS, UnavailableError, run_trial
from tests.faults.surroundings import SURROUNDING_CASES
from tests.faults.values import CONFIG_VALUES, is_accepted_or_named, round_trips, unusual_states

_KILLS_PER_RUN = 5
_SEED = 20240


Row = tuple[str, bool]
"""A case that was attempted, and whether it was survived."""


def main() -> int:
    """Runs every case, prints the table, and returns 1 if any was not survived."""
    attempts: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        lab.reference_outcome()
        for case, is_survived in chain(
            _kill_cases(lab), _damage_cases(lab), _trial_cases(lab), _refusal_cases(lab), _value_cases()
        ):
            attempts[case] += 1
            survived[case] += is_survived
            print(f"{case}: {survived[case]} of {attempts[case]}", flush=True)
    print("\n| case | tried | survived |\n|---|---|---|")
    for case, count in attempts.items():
        print(f"| {case} | {count} | {survived[case]} |")
    return int(survived != attempts)


def _kill_cases(lab: Lab) -> Iterator[Row]:
    for case, target_count, kill in (
        ("killed at a random moment", 50, kill_at_random),
        ("killed during a save", 20, kill_while_saving),
    ):
        rng, total_hits = random.Random(_SEED), 0
        while total_hits < target_count:
            name = f"{kill.__name__}-{total_hits}"
            hits = kill(lab, name, min(_KILLS_PER_RUN, target_count - total_hits), rng)
            yield from [(case, _finishes_identically(lab, lab.folder / name))] * hits
            total_hits += hits


def _damage_cases(lab: Lab) -> Iterator[Row]:
    interrupted = lab.interrupted_run()
    newest = max((interrupted / "checkpoints").iterdir(), key=lambda path: int(path.name)).relative_to(interrupted)
    for kind, path in list(damage_cases(interrupted / newest)):
        run = lab.copy(interrupted, "hurt")
        damage(run / newest / path, kind)
        case = "a bit flipped in a checkpoint file" if kind == "flipped" else f"a checkpoint file {kind}"
        yield case, _finishes_identically(lab, run)


def _trial_cases(lab: Lab) -> Iterator[Row]:
    for trial in TRIALS:
        try:
            yield trial.kind, run_trial(lab, trial)
        except UnavailableError as error:
            print(f"{trial.kind}, {trial.name}: left out, it {error}", flush=True)


def _refusal_cases(lab: Lab) -> Iterator[Row]:
    for index, case in enumerate([*ARGUMENT_CASES, *SURROUNDING_CASES]):
        yield (
            f"refused in one line: {case.kind}",
            is_refusal(case, run_in_subprocess(case, lab.folder / f"refused-{index}")),
        )


def _value_cases() -> Iterator[Row]:
    for tree in unusual_states().values():
        yield "a state with unusual leaves, saved and restored", round_trips(tree)
    for values in CONFIG_VALUES:
        yield "a value of another type, passed from Python: accepted, or refused by name", is_accepted_or_named(*values)


def _finishes_identically(lab: Lab, run: Path) -> bool:
    result = lab.finish(run)
    if result.returncode:
        print(result.stderr, file=sys.stderr)
        return False
    return read_outcome(run) == lab.reference_outcome()


if __name__ == "__main__":
    sys.exit(main())
