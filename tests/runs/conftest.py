"""What the tests of whole runs share."""

import pytest

from fmnist_jax.runs import results


@pytest.fixture
def drawn() -> None:
    """Asked for by a test that looks at what its own runs draw."""


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a test's own runs leave no figures and no report, a third of a small run's time; module fixtures' runs do."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(results, "draw", lambda *_: {})
        monkeypatch.setattr(results, "write_report", lambda directory, *_, **__: directory / "report.html")
