"""What the tests of whole runs share."""

import pytest

from fmnist_jax.runs import results
from tests.undrawn import IN_RESULTS


@pytest.fixture
def drawn() -> None:
    """Asked for by a test that looks at what its own runs draw."""


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a test's own runs leave no figures and no report; those of module fixtures that do not say so do."""
    if "drawn" not in request.fixturenames:
        for name, stand_in in IN_RESULTS.items():
            monkeypatch.setattr(results, name, stand_in)
