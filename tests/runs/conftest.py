"""Fixtures shared by the tests of runs."""

import pytest

from fmnist_jax.runs import results
from tests.undrawn import RESULTS_STUBS


@pytest.fixture
def with_figures() -> None:
    """Requested by tests that check the figures or the report of their own runs."""


@pytest.fixture(autouse=True)
def skip_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips figures and report in the runs of a test; those in module fixtures write them unless patched."""
    if "with_figures" not in request.fixturenames:
        for name, stub in RESULTS_STUBS.items():
            monkeypatch.setattr(results, name, stub)
