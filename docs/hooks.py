"""What the site holds beside the pages of this folder: the lesson, the API by room, and what the experiments show.

MkDocs calls the functions `on_…`, see `mkdocs.yml`. A link from here to `../experiments/` works in the repository as it
does on the site, where `experiments/` is a folder of it.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT / "fmnist_jax"
_LESSON = _ROOT / "experiments" / "lesson.ipynb"
_SHOWN = ("*.md", "*.png", _LESSON.name)


def rooms() -> dict[str, dict[str, list[str]]]:
    """The exported names by room and module, in the order in which they are listed."""
    found: dict[str, dict[str, list[str]]] = {}
    for node in ast.parse((_PACKAGE / "__init__.pyi").read_text()).body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        names = found.setdefault(node.module.split(".")[0], {}).setdefault(node.module, [])
        names.extend(alias.name for alias in node.names)
    return found


def api_page(room: str, modules: dict[str, list[str]]) -> str:
    """The Markdown of a room: what lives there, then each module with what of it is exported."""
    lines = [f"# {room}", ""]
    if (_PACKAGE / room / "__init__.py").exists():
        lines += [ast.get_docstring(ast.parse((_PACKAGE / room / "__init__.py").read_text())) or "", ""]
    for module, names in modules.items():
        lines += [f"## {module}", "", f"::: fmnist_jax.{module}", "    options:", f"      members: {names}", ""]
    return "\n".join(lines)


def lesson_page() -> str:
    """The Markdown of the lesson: its text, and its code as it stands there."""
    cells = json.loads(_LESSON.read_text())["cells"]
    texts = [(cell["cell_type"] == "code", "".join(cell["source"])) for cell in cells]
    return "\n\n".join(f"```python\n{text}\n```" if is_code else text for is_code, text in texts)


def shown() -> Iterator[Path]:
    """The files of the experiments that the site shows."""
    for pattern in _SHOWN:
        for path in sorted((_ROOT / "experiments").rglob(pattern)):
            if ".template." not in path.name:
                yield path


def on_files(files: "Files", config: Any) -> "Files":
    """Adds the pages that are made, and those that lie elsewhere."""
    from mkdocs.structure.files import File  # which the tests of this module do without

    for room, modules in rooms().items():
        files.append(File.generated(config, f"api/{room}.md", content=api_page(room, modules)))
    for path in shown():
        files.append(File.generated(config, path.relative_to(_ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Has links between this folder's pages and the experiments lead to those on the site; shows the lesson whole."""
    if page.file.generated_by:
        return markdown.replace("../docs/", "../")
    whole = f"{markdown}\n\n{lesson_page()}" if page.file.src_uri == "lesson.md" else markdown
    return whole.replace("](../experiments/", "](experiments/")
