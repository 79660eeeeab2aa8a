"""The pinned tools: the intended ones, for the lowest supported Python, and without an index."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from tests import lock

_ROOT = Path(__file__).parents[1]
_PINNED = dict(
    line.split("==") for line in (_ROOT / "tests" / "constraints.txt").read_text().splitlines() if line[0] != "#"
)


def test_constraints_pin_every_tool_and_no_package_dependency() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    dependencies = {re.split(r"[>=\[]", line)[0].lower() for line in project["dependencies"]}
    assert _PINNED.keys() >= set(lock.TOOLS)
    assert not _PINNED.keys() & dependencies
    development = {re.split(r">=", line)[0].lower() for line in project["optional-dependencies"]["dev"]}
    assert set(lock.TOOLS) <= development


@pytest.mark.parametrize("tool", lock.TOOLS)
def test_installed_tools_match_the_constraints(tool: str) -> None:
    assert metadata.version(tool) == _PINNED[tool]


def test_render_sorts_pins_without_an_index_and_lowest_python_is_read() -> None:
    text = lock.render({"b": "2.0", "a": "1.0"})
    assert text.splitlines()[1:] == ["a==1.0", "b==2.0"]
    assert "/" not in "".join(line for line in text.splitlines() if line[0] != "#")
    assert lock.lowest_python(_ROOT / "pyproject.toml") == "3.11"
