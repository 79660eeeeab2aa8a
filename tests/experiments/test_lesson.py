"""The lesson: stored without outputs, running from top to bottom, with a correct table of idioms."""

import re
from pathlib import Path

import nbformat
import pytest

from experiments import lesson

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[2]
_SMALL_DATA = (
    'fj.DataConfig(name="synthetic", synthetic_train_size=3_000, synthetic_test_size=1_000, validation_size=1_000)'
)
_SMALL_MODEL = 'fj.ModelConfig(family="plain", widths=(8, 16, 32), depths=(1, 1, 1), dropout=0.1)'


def idiom_rows() -> list[tuple[str, str, str]]:
    """The rows of the lesson's table: a concept, its PyTorch idiom and its JAX idiom."""
    [table] = [cell.source for cell in lesson.read_notebook().cells if "| concept |" in cell.source]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if line.startswith("|")]
    idioms = [(concept.strip(), torch_code.strip(), jax_code.strip()) for concept, torch_code, jax_code in rows]
    return idioms[2:]


@pytest.fixture(scope="module")
def executed() -> nbformat.NotebookNode:
    """The executed lesson, followed by the JAX side of each idiom in the same kernel.

    It trains on fewer images, by the one line that the lesson says to change, and with a narrower network.
    """
    notebook = lesson.read_notebook()
    for name, value in (("DATA", _SMALL_DATA), ("MODEL", _SMALL_MODEL)):
        [cell] = [cell for cell in notebook.cells if cell.source.startswith(f"{name} = ")]
        cell.source = re.sub(rf"{name} = .*", f"{name} = {value}", cell.source, count=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(_ROOT))
        return lesson.execute(notebook, [jax_code.strip("`") for _, _, jax_code in idiom_rows()])


def printed_text(executed: nbformat.NotebookNode) -> str:
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_notebook_is_stored_without_outputs() -> None:
    notebook = lesson.read_notebook()
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_executed_notebook_prints_what_its_text_claims(executed: nbformat.NotebookNode) -> None:
    output_text = printed_text(executed)
    assert output_text.count("the same bits: True") == 2
    assert "twice the same, to the last bit: True" in output_text
    accuracy = re.search(r"test accuracy ([\d.]+)%", output_text)
    assert accuracy is not None
    assert float(accuracy[1]) > 60
    assert not [
        output for cell in executed.cells for output in cell.get("outputs", ()) if output.get("name") == "stderr"
    ]


def test_each_idiom_is_code_that_runs_in_the_notebook(executed: nbformat.NotebookNode) -> None:
    rows = idiom_rows()
    assert len(rows) >= 20
    assert all(re.fullmatch(r"`[^`]+`", code) for _, torch_code, jax_code in rows for code in (torch_code, jax_code))
    assert len({concept for concept, _, _ in rows}) == len(rows)
    # A failing cell would have stopped the execution.
    assert [cell.source for cell in executed.cells[-len(rows) :]] == [jax_code.strip("`") for _, _, jax_code in rows]


def test_every_figure_has_alt_text(executed: nbformat.NotebookNode) -> None:
    figure_cells = [
        cell
        for cell in executed.cells
        if any("image/png" in output.get("data", ()) for output in cell.get("outputs", ()))
    ]
    assert len(figure_cells) == 6
    assert all(cell.metadata.get("alt") for cell in figure_cells)


def test_rendered_page_is_self_contained(executed: nbformat.NotebookNode) -> None:
    page = lesson.render_page(executed)
    assert page.count('src="data:image/png') == 6
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:|#|https://optax)', page)
    assert not re.search(r"@import|url\(", page)
