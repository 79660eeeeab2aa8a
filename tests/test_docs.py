"""The site of `make docs`: its API pages, its navigation, and a build without warnings."""

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


def test_api_pages_list_every_exported_name_by_room(hooks: ModuleType) -> None:
    rooms = hooks.rooms()
    assert {name for modules in rooms.values() for names in modules.values() for name in names} == set(dir(fmnist_jax))
    page = hooks.api_page("functional", rooms["functional"])
    assert page.startswith("# functional\n\nThe core")
    assert "::: fmnist_jax.functional.augment\n    options:\n      members: ['Augment', " in page


def test_navigation_lists_every_page_once(hooks: ModuleType) -> None:
    nav_pages = re.findall(r": ([\w/]+\.md)$", (_ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    doc_pages = {path.name for path in (_ROOT / "docs").glob("*.md")}
    experiment_pages = {path.relative_to(_ROOT).as_posix() for path in hooks.shown() if path.suffix == ".md"}
    assert len(nav_pages) == len(set(nav_pages))
    assert set(nav_pages) == doc_pages | experiment_pages | {f"api/{room}.md" for room in hooks.rooms()}


def test_site_builds_without_warnings_and_loads_nothing_external(tmp_path: Path) -> None:
    # Without --quiet, which would hide warnings from --strict.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    result = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "make_train_step" in (tmp_path / "api" / "functional.html").read_text()
    assert "jax.vmap" in (tmp_path / "lesson.html").read_text()
    external_resource = (
        r"<(?:script|img|iframe)[^>]+src=\"?(https?:[^\"> ]+)|<link[^>]+stylesheet[^>]*href=\"?(https?:[^\"> ]+)"
    )
    for page in tmp_path.rglob("*.html"):
        assert not re.findall(external_resource, page.read_text()), page.name
