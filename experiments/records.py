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


def session_origins(run: Path) -> list[dict[str, Any]]:
    """The origin of the run's first start, and those of later starts that differ from the one before."""
    origins: list[dict[str, Any]] = []
    for line in (run / "sessions.jsonl").read_text().splitlines(keepends=True):
        is_complete = line.endswith("\n")  # a killed run leaves the last one incomplete
        if is_complete and (current := origin(json.loads(line))) not in origins[-1:]:
            origins.append(current)
    return origins


def short_commit(commit: str) -> str:
    """The first seven digits of a commit, and its mark if the working tree differed from it."""
    sha, mark, suffix = commit.partition("+")
    return f"{sha[:7]}{mark}{suffix}"


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes JSON atomically, and creates its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".unfinished")
    temporary.write_text(json.dumps(values, indent=2, default=str) + "\n")
    temporary.replace(path)
