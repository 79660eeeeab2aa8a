"""The long form of the fault tests: `make faults` prints how many cases of each kind a run survived.

Survived means: the run, started again until it ends, has the state digest, the training loss of every step
and the validation scores of a run that nothing happened to.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.faults.harness import Lab, damage, damages, kill_at_random, kill_while_saving, outcome

_CHAIN = 5  # kills to a run
_SEED = 20240


def main() -> int:
    """Runs every case, prints the table, and returns 1 if any was not survived."""
    tried: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        lab.undisturbed()
        for case, wanted, kill in (
            ("killed at a random moment", 50, kill_at_random),
            ("killed during a save", 20, kill_while_saving),
        ):
            rng = random.Random(_SEED)
            while tried[case] < wanted:
                name = f"{kill.__name__}-{tried[case]}"
                hits = kill(lab, name, min(_CHAIN, wanted - tried[case]), rng)
                tried[case] += hits
                survived[case] += hits * _same_in_the_end(lab, lab.folder / name)
                print(f"{case}: {survived[case]} of {tried[case]}", flush=True)
        half_done = lab.half_done()
        newest = max((half_done / "checkpoints").iterdir(), key=lambda path: int(path.name)).relative_to(half_done)
        for kind, path in list(damages(half_done / newest)):
            case = "a bit flipped in a checkpoint file" if kind == "flipped" else f"a checkpoint file {kind}"
            run = lab.copy(half_done, "hurt")
            damage(run / newest / path, kind)
            tried[case] += 1
            survived[case] += _same_in_the_end(lab, run)
        for case in tried:
            print(f"{case}: {survived[case]} of {tried[case]}", flush=True)
    print("\n| case | tried | survived |\n|---|---|---|")
    for case, count in tried.items():
        print(f"| {case} | {count} | {survived[case]} |")
    return int(survived != tried)


def _same_in_the_end(lab: Lab, run: Path) -> bool:
    done = lab.finish(run)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return False
    return outcome(run) == lab.undisturbed()


if __name__ == "__main__":
    sys.exit(main())
