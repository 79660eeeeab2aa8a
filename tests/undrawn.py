"""What stands for the figures and the report of a run where no test looks at them."""

from pathlib import Path
from typing import Any


def _no_figures(*_: Any) -> dict[str, Any]:
    return {}


def _no_report(directory: Path, *_: Any, **__: Any) -> Path:
    return directory / "report.html"


IN_RESULTS: dict[str, Any] = {"make_figures": _no_figures, "write_report": _no_report}
"""By the names of the functions of `runs.results` that draw, which takes a third of a small run's time."""
