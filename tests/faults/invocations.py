"""Invocations that cannot work, and what came of each: `refuse` runs one in an empty folder."""

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

_UNSET = ("FMNIST_", "TFDS_", "JAX_PLATFORM")
_LIMIT = 30.0  # seconds; each takes one or two on an idle machine, and several run at once here


@dataclass(frozen=True)
class Case:
    """Arguments (`{here}` is an empty folder), and what the message must say."""

    arguments: str
    says: str
    prepare: Callable[[Path], None] = lambda _: None
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = "train"
    kind: str = "an invalid argument"
    """Its row in the table of `make faults`."""


@dataclass(frozen=True)
class Refusal:
    """What an invocation did."""

    code: int
    errors: str
    before: frozenset[str]
    after: frozenset[str]


def is_refusal(case: Case, refusal: Refusal) -> bool:
    """Whether an invocation ended with exit code 2 and one line that says what it must, and left no new file behind."""
    lines = refusal.errors.splitlines()
    said = len(lines) == 1 and lines[0].startswith("error: ") and case.says in lines[0]
    return refusal.code == 2 and said and refusal.after == refusal.before


def refuse(case: Case, here: Path) -> Refusal:
    """Runs an invocation in a folder, which is made."""
    here.mkdir()
    case.prepare(here)
    environment = _environment(case, here)
    before = _listing(here)
    done = subprocess.run(
        [sys.executable, "-m", f"fmnist_jax.{case.command}", *case.arguments.format(here=here).split()],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    return Refusal(done.returncode, done.stderr, before, _listing(here))


def _environment(case: Case, here: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_UNSET)}
    named = {name: value.format(here=here) for name, value in case.environment.items()}
    return (
        kept
        | named
        | {
            "PYTHONPATH": str(ROOT),
            "HOME": str(here),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MPLCONFIGDIR": str(here.parent / "matplotlib"),
            # What takes long to compile is kept, which a slow machine would show in the listing.
            "XDG_CACHE_HOME": str(here.parent / "cache"),
        }
    )


def refuse_here(case: Case, here: Path) -> Refusal:
    """Makes an invocation in this process, which takes a hundredth of the time, as `run_command` would make it."""
    here.mkdir()
    case.prepare(here)
    before = _listing(here)
    module = importlib.import_module(f"fmnist_jax.{case.command}")
    with patch.dict(os.environ, _environment(case, here), clear=True), contextlib.chdir(here):
        try:
            module.main(case.arguments.format(here=here).split())
        except FmnistError as error:
            return Refusal(error.exit_code, f"{error.label}: {error}\n", before, _listing(here))
    return Refusal(0, "", before, _listing(here))


def _listing(here: Path) -> frozenset[str]:
    return frozenset(str(path.relative_to(here)) for path in here.rglob("*"))
