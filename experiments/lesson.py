"""Runs the lesson and renders it as one page that opens alone: `python -m experiments.lesson OUT.html`, `make lesson`.

The notebook beside this module is the source, stored without what it prints.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
import tyro
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from pygments.formatters.html import HtmlFormatter

from experiments.records import prepare_output
from experiments.script import run_script

NOTEBOOK = Path(__file__).with_suffix(".ipynb")

_STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --back: #fff; --code: #f5f6f8; --line: #d5d9de; --link: #0060a8; }
@media (prefers-color-scheme: dark) {
  :root { --text: #dfe3e8; --back: #14171a; --code: #1e2226; --line: #3a4046; --link: #7cbcf5; }
}
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; color: var(--text); background: var(--back);
  font: 1rem/1.6 system-ui, sans-serif; }
p, ul, blockquote { max-width: 46rem; }
h1, h2, h3 { line-height: 1.25; margin: 2.2em 0 0.6em; }
h1 { margin-top: 0.5em; }
a { color: var(--link); }
a.anchor-link { visibility: hidden; margin-left: 0.3em; text-decoration: none; }
:hover > a.anchor-link, a.anchor-link:focus { visibility: visible; }
blockquote { margin: 1em 0; padding: 0.1em 1em; border-left: 4px solid var(--link); }
code, pre { font: 0.86rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
h2 code { font-size: 0.95em; }
:not(pre) > code { background: var(--code); padding: 0.1em 0.3em; border-radius: 3px; }
.input pre { background: var(--code); padding: 0.7em 0.9em; margin: 1em 0 0; border-radius: 6px; overflow-x: auto; }
.output pre { padding: 0.5em 0.9em; margin: 0; border-left: 3px solid var(--line); overflow-x: auto; }
.output_png img { display: block; max-width: 100%; height: auto; margin: 0.8em 0; background: #fff; }
table { border-collapse: collapse; font-size: 0.92rem; display: block; overflow-x: auto; }
td code { overflow-wrap: anywhere; }
th, td { border-bottom: 1px solid var(--line); padding: 0.35em 0.7em; text-align: left; vertical-align: top; }
"""


@dataclass(frozen=True)
class Arguments:
    """Runs the lesson and renders it as one page that opens alone."""

    out: tyro.conf.Positional[Path]
    """The HTML file to write."""


def read_notebook() -> nbformat.NotebookNode:
    """Reads the lesson as it is stored."""
    return nbformat.read(NOTEBOOK, as_version=4)


def execute(notebook: nbformat.NotebookNode, extra_cells: Sequence[str] = ()) -> nbformat.NotebookNode:
    """Runs the cells from top to bottom in this interpreter, in an empty folder, and keeps what they show.

    Args:
      notebook: it stays as it is.
      extra_cells: code of cells to run after the last one.

    Raises:
      CellExecutionError: a cell fails.
    """
    executed = nbformat.from_dict(notebook)
    executed.cells.extend(nbformat.v4.new_code_cell(code) for code in extra_cells)
    # Of this interpreter, whatever a user has installed under the same name.
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            executed, km=kernel, timeout=600, coalesce_streams=True, resources={"metadata": {"path": folder}}
        )
        client.execute(cleanup_kc=True)  # a kernel that was given is left running otherwise
    return executed


def render_page(notebook: nbformat.NotebookNode) -> str:
    """Renders a notebook as one HTML page: pictures within, no script, and nothing from elsewhere."""
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(notebook)
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    style = f"{_STYLE}{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n.highlight {{ background: none }}"
    title = "Fashion-MNIST, from PyTorch to JAX"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def main(arguments: Arguments) -> None:
    """Runs the notebook, and writes the page."""
    prepare_output(arguments.out)
    arguments.out.write_text(render_page(execute(read_notebook())))


if __name__ == "__main__":
    run_script(main, Arguments)
