"""Shared by the fault tests."""

import os
from pathlib import Path

import pytest

from tests.faults.harness import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    """One folder for all workers: each needs the undisturbed run and its compilation cache."""
    folder = Path(os.environ["FMNIST_JAX_TEST_SHARED"]) / "lab"
    folder.mkdir(exist_ok=True)
    return Lab(folder, draw_figures=False)
