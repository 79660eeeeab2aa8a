"""What every experiment records beside its figures: where they were measured, and of which state of the code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def origin(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of the description of a machine, without any place on it."""
    return {
        "hardware": {key: environment[key] for key in ("backend", "devices", "cpu_count", "processor")},
        "versions": {"python": environment["python"], **environment["packages"]},
        "commit": environment["git_commit"],
    }


def starts(run: Path) -> list[dict[str, Any]]:
    """The origin of the run's first start, and those of later starts that differ from what came before them."""
    found: list[dict[str, Any]] = []
    for line in (run / "sessions.jsonl").read_text().splitlines(keepends=True):
        whole = line.endswith("\n")  # a kill cuts the last one short
        if whole and (known := origin(json.loads(line))) not in found[-1:]:
            found.append(known)
    return found


def short(commit: str) -> str:
    """Seven digits of a commit, and whether anything in the working tree differed from it."""
    digits, mark, changed = commit.partition("+")
    return f"{digits[:7]}{mark}{changed}"


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Writes JSON, whole or not at all, into a folder that is made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(found, indent=2, default=str) + "\n")
    unfinished.replace(path)
