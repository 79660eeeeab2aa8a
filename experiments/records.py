"""What every experiment records besides its figures: the machine, the versions and the commit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def origin(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a machine's description that is recorded, without any path on it."""
    return {
        "hardware": {key: environment[key] for key in ("backend", "devices", "cpu_count", "processor")},
        "versions": {"python": environment["python"], **environment["packages"]},
        "commit": environment["git_commit"],
    }


def starts(run: Path) -> list[dict[str, Any]]:
    """The origin of the run's first start, and those of later starts that differ from the one before."""
    found: list[dict[str, Any]] = []
    for line in (run / "sessions.jsonl").read_text().splitlines(keepends=True):
        whole = line.endswith("\n")  # a killed run leaves the last one incomplete
        if whole and (known := origin(json.loads(line))) not in found[-1:]:
            found.append(known)
    return found


def short(commit: str) -> str:
    """The first seven digits of a commit, and its mark if the working tree differed from it."""
    digits, mark, changed = commit.partition("+")
    return f"{digits[:7]}{mark}{changed}"


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Writes JSON atomically, and creates its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(found, indent=2, default=str) + "\n")
    unfinished.replace(path)
