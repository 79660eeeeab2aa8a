"""Stand-ins for the figures and the report of a run, for tests that do not look at them."""

from pathlib import Path
from typing import Any


def _no_figures(*_: Any) -> dict[str, Any]:
    return {}


def _no_report(directory: Path, *_: Any, **__: Any) -> Path:
    return directory / "report.html"


RESULTS_STUBS: dict[str, Any] = {"make_figures": _no_figures, "write_report": _no_report}
"""By the name of the drawing function in `runs.results`: drawing takes a third of a small run's time."""
