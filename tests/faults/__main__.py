"""The long form of the fault tests: `make faults` prints how many cases of each kind a run survived.

Survived means: the run, started again until it ends, has the state digest, the training loss of every step
and the validation scores of a run that nothing happened to.
"""

import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tests.faults.arguments import ARGUMENTS
from tests.faults.harness import Lab, damage, damages, kill_at_random, kill_while_saving, outcome
from tests.faults.invocations import is_refusal, refuse
from tests.faults.kinds import TRIALS, UnavailableError, tried
from tests.faults.surroundings import SURROUNDINGS
from tests.faults.values import GIVEN, is_taken_or_named, returns_alike, states

_CHAIN = 5  # kills to a run
_SEED = 20240


Row = tuple[str, bool]
"""A case that was tried, and whether it was survived."""


def main() -> int:
    """Runs every case, prints the table, and returns 1 if any was not survived."""
    tried: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        lab.undisturbed()
        for case, good in chain(_kills(lab), _damages(lab), _trials(lab), _refusals(lab), _values()):
            tried[case] += 1
            survived[case] += good
            print(f"{case}: {survived[case]} of {tried[case]}", flush=True)
    print("\n| case | tried | survived |\n|---|---|---|")
    for case, count in tried.items():
        print(f"| {case} | {count} | {survived[case]} |")
    return int(survived != tried)


def _kills(lab: Lab) -> Iterator[Row]:
    for case, wanted, kill in (
        ("killed at a random moment", 50, kill_at_random),
        ("killed during a save", 20, kill_while_saving),
    ):
        rng, hits = random.Random(_SEED), 0
        while hits < wanted:
            name = f"{kill.__name__}-{hits}"
            hit = kill(lab, name, min(_CHAIN, wanted - hits), rng)
            yield from [(case, _same_in_the_end(lab, lab.folder / name))] * hit
            hits += hit


def _damages(lab: Lab) -> Iterator[Row]:
    half_done = lab.half_done()
    newest = max((half_done / "checkpoints").iterdir(), key=lambda path: int(path.name)).relative_to(half_done)
    for kind, path in list(damages(half_done / newest)):
        run = lab.copy(half_done, "hurt")
        damage(run / newest / path, kind)
        case = "a bit flipped in a checkpoint file" if kind == "flipped" else f"a checkpoint file {kind}"
        yield case, _same_in_the_end(lab, run)


def _trials(lab: Lab) -> Iterator[Row]:
    for trial in TRIALS:
        try:
            yield trial.kind, tried(lab, trial)
        except UnavailableError as error:
            print(f"{trial.kind}, {trial.name}: left out, it {error}", flush=True)


def _refusals(lab: Lab) -> Iterator[Row]:
    for index, case in enumerate([*ARGUMENTS, *SURROUNDINGS]):
        yield f"refused in one line: {case.kind}", is_refusal(case, refuse(case, lab.folder / f"refused-{index}"))


def _values() -> Iterator[Row]:
    for tree in states().values():
        yield "a state with unusual leaves, saved and restored", returns_alike(tree)
    for given in GIVEN:
        yield "a value of another type, passed from Python: accepted, or refused by name", is_taken_or_named(*given)


def _same_in_the_end(lab: Lab, run: Path) -> bool:
    done = lab.finish(run)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return False
    return outcome(run) == lab.undisturbed()


if __name__ == "__main__":
    sys.exit(main())
