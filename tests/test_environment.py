"""What a run says of the machine that it ran on."""

import json
from importlib import metadata
from pathlib import Path

import jax
import pytest

from fmnist_jax import environment


def test_versions_and_devices_are_those_of_this_process() -> None:
    described = environment.describe()
    assert described["packages"]["jax"] == metadata.version("jax")
    assert described["backend"] == "cpu"
    assert len(described["devices"]) == len(jax.devices())
    assert json.loads(json.dumps(described)) == described


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.describe()["git_commit"] is None
