"""The lesson: stored without what it prints, running from top to bottom anywhere, and its table of idioms true."""

import re
from pathlib import Path

import nbformat
import pytest

from experiments import lesson

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[2]
_FEW = 'fj.DataConfig(name="synthetic", synthetic_train_size=3_000, synthetic_test_size=1_000, validation_size=1_000)'
_NARROW = 'fj.ModelConfig(family="plain", widths=(8, 16, 32), depths=(1, 1, 1), dropout=0.1)'


def idioms() -> list[tuple[str, str, str]]:
    """The rows of the lesson's table: a concept, how PyTorch says it, and how JAX does."""
    [table] = [cell.source for cell in lesson.read().cells if "| concept |" in cell.source]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if line.startswith("|")]
    concepts = [(concept.strip(), theirs.strip(), ours.strip()) for concept, theirs, ours in rows]
    return concepts[2:]


@pytest.fixture(scope="module")
def run() -> nbformat.NotebookNode:
    """The lesson with what its cells print, and the JAX side of each idiom after it, in the same kernel.

    Of fewer images, by the one line that the lesson says to change, and with a narrower network.
    """
    notebook = lesson.read()
    for name, value in (("DATA", _FEW), ("MODEL", _NARROW)):
        [cell] = [cell for cell in notebook.cells if cell.source.startswith(f"{name} = ")]
        cell.source = re.sub(rf"{name} = .*", f"{name} = {value}", cell.source, count=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(_ROOT))
        return lesson.executed(notebook, [ours.strip("`") for _, _, ours in idioms()])


def printed(run: nbformat.NotebookNode) -> str:
    outputs = [output for cell in run.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_it_is_stored_without_what_it_prints() -> None:
    notebook = lesson.read()
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_it_runs_and_shows_what_its_words_say(run: nbformat.NotebookNode) -> None:
    words = printed(run)
    assert words.count("the same bits: True") == 2
    assert "twice the same, to the last bit: True" in words
    accuracy = re.search(r"test accuracy ([\d.]+)%", words)
    assert accuracy is not None
    assert float(accuracy[1]) > 60
    assert not [output for cell in run.cells for output in cell.get("outputs", ()) if output.get("name") == "stderr"]


def test_each_idiom_is_code_that_runs(run: nbformat.NotebookNode) -> None:
    rows = idioms()
    assert len(rows) >= 20
    assert all(re.fullmatch(r"`[^`]+`", side) for _, theirs, ours in rows for side in (theirs, ours))
    assert len({concept for concept, _, _ in rows}) == len(rows)
    # A cell that had failed would have stopped the run.
    assert [cell.source for cell in run.cells[-len(rows) :]] == [ours.strip("`") for _, _, ours in rows]


def test_every_figure_has_words_for_those_who_cannot_see_it(run: nbformat.NotebookNode) -> None:
    drawn = [cell for cell in run.cells if any("image/png" in o.get("data", ()) for o in cell.get("outputs", ()))]
    assert len(drawn) == 6
    assert all(cell.metadata.get("alt") for cell in drawn)


def test_its_page_opens_alone(run: nbformat.NotebookNode) -> None:
    page = lesson.page(run)
    assert page.count('src="data:image/png') == 6
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:|#|https://optax)', page)
    assert not re.search(r"@import|url\(", page)
