"""Invocations that must be refused, and their outcomes; each runs in an empty folder."""

import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from fmnist_jax.errors import FmnistError
from tests.faults.harness import ROOT

_UNSET_PREFIXES = ("FMNIST_", "TFDS_", "JAX_PLATFORM")
_TIMEOUT = 30.0  # seconds; each takes one or two on an idle machine, and several run at once here


@dataclass(frozen=True)
class Case:
    """Arguments (`{here}` is an empty folder), and what the message must contain."""

    arguments: str
    expected: str
    prepare: Callable[[Path], None] = lambda _: None
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = "train"
    kind: str = "an invalid argument"
    """Its row in the table of `make faults`."""


@dataclass(frozen=True)
class Refusal:
    """The outcome of an invocation."""

    exit_code: int
    stderr: str
    files_before: frozenset[str]
    files_after: frozenset[str]


def is_refusal(case: Case, refusal: Refusal) -> bool:
    """Whether an invocation ended with exit code 2 and one line with the expected text, and left no new file behind."""
    lines = refusal.stderr.splitlines()
    is_expected_line = len(lines) == 1 and lines[0].startswith("error: ") and case.expected in lines[0]
    return refusal.exit_code == 2 and is_expected_line and refusal.files_after == refusal.files_before


def run_in_subprocess(case: Case, folder: Path) -> Refusal:
    """Runs an invocation in a new folder, in a subprocess."""
    folder.mkdir()
    case.prepare(folder)
    environment = _environment(case, folder)
    files_before = _list_files(folder)
    result = subprocess.run(
        [sys.executable, "-m", f"fmnist_jax.{case.command}", *case.arguments.format(here=folder).split()],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    return Refusal(result.returncode, result.stderr, files_before, _list_files(folder))


def _environment(case: Case, folder: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_UNSET_PREFIXES)}
    case_variables = {name: value.format(here=folder) for name, value in case.environment.items()}
    return (
        inherited
        | case_variables
        | {
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MPLCONFIGDIR": str(folder.parent / "matplotlib"),
            # Slow compilations are cached, which would show up among the files on a slow machine.
            "XDG_CACHE_HOME": str(folder.parent / "cache"),
        }
    )


def run_in_process(case: Case, folder: Path) -> Refusal:
    """Runs an invocation in this process as `run_command` would, which takes a hundredth of the time."""
    folder.mkdir()
    case.prepare(folder)
    files_before = _list_files(folder)
    module = importlib.import_module(f"fmnist_jax.{case.command}")
    with patch.dict(os.environ, _environment(case, folder), clear=True), contextlib.chdir(folder):
        try:
            module.main(case.arguments.format(here=folder).split())
        except FmnistError as error:
            return Refusal(error.exit_code, f"{error.label}: {error}\n", files_before, _list_files(folder))
    return Refusal(0, "", files_before, _list_files(folder))


def _list_files(folder: Path) -> frozenset[str]:
    return frozenset(str(path.relative_to(folder)) for path in folder.rglob("*"))
