"""What the fault tests share."""

import os
from pathlib import Path

import pytest

from tests.faults.harness import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    """A folder of all workers, for the run that nothing happens to and what it compiles are wanted by each."""
    folder = Path(os.environ["FMNIST_JAX_TEST_SHARED"]) / "lab"
    folder.mkdir(exist_ok=True)
    return Lab(folder, drawn=False)
