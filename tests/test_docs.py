"""The site of `make docs`: what its pages are made of, and that they build without a warning."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fmnist_jax

_ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", _ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_exported_name_is_on_the_page_of_its_room(hooks: ModuleType) -> None:
    rooms = hooks.rooms()
    assert {name for modules in rooms.values() for names in modules.values() for name in names} == set(dir(fmnist_jax))
    page = hooks.api_page("functional", rooms["functional"])
    assert page.startswith("# functional\n\nThe core")
    assert "::: fmnist_jax.functional.augment\n    options:\n      members: ['Augment', " in page


def test_every_page_stands_in_the_navigation(hooks: ModuleType) -> None:
    listed = re.findall(r": ([\w/]+\.md)$", (_ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    own = {path.name for path in (_ROOT / "docs").glob("*.md")}
    shown = {path.relative_to(_ROOT).as_posix() for path in hooks.shown() if path.suffix == ".md"}
    assert len(listed) == len(set(listed))
    assert set(listed) == own | shown | {f"api/{room}.md" for room in hooks.rooms()}


def test_the_site_builds_without_a_warning_and_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    # Not --quiet, with which no warning counts.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "make_train_step" in (tmp_path / "api" / "functional.html").read_text()
    assert "jax.vmap" in (tmp_path / "lesson.html").read_text()
    fetched = r"<(?:script|img|iframe)[^>]+src=\"?(https?:[^\"> ]+)|<link[^>]+stylesheet[^>]*href=\"?(https?:[^\"> ]+)"
    for page in tmp_path.rglob("*.html"):
        assert not re.findall(fetched, page.read_text()), page.name
