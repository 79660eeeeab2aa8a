"""What every experiment records besides its figures: the machine, the versions and the commit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmnist_jax import FmnistError


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
    """Writes JSON atomically, and creates its folder if need be.

    Raises:
      FmnistError: it cannot be written; what was written of it is removed.
    """
    prepare_output(path)
    temporary = path.with_suffix(".unfinished")
    try:
        temporary.write_text(json.dumps(values, indent=2, default=str) + "\n")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FmnistError(f"{path} cannot be written ({error.strerror}): free space, or give another path") from error


def read_json(path: Path) -> Any:
    """Reads what `write_json` has written.

    Raises:
      FmnistError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise FmnistError(f"{path} cannot be read ({error}): restore it, or make it anew") from error


def prepare_output(path: Path) -> None:
    """Creates the folder of a file that is going to be written, to be called before the work.

    Raises:
      FmnistError: it cannot be created, or the file is a directory.
    """
    if path.is_dir():
        raise FmnistError(f"{path} is a directory: give the path of a file")
    make_folder(path.parent)


def make_folder(path: Path) -> None:
    """Creates a folder if it is missing.

    Raises:
      FmnistError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FmnistError(f"{path} cannot be made ({error.strerror}): give another folder") from error
