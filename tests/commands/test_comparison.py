"""The page of several runs, out of their files."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fmnist_jax.commands import comparison
from fmnist_jax.config.record import from_dict
from fmnist_jax.config.schema import DataConfig
from fmnist_jax.data.dataset import Dataset, load
from fmnist_jax.errors import FmnistError
from tests.ended import take_all_steps
from tests.views.test_comparison_page import run as made


@pytest.fixture
def two(saved_run: Path, tmp_path: Path) -> list[Path]:
    for name in ("one", "other"):
        shutil.copytree(saved_run, tmp_path / "runs" / name)
    return [tmp_path / "runs" / name for name in ("one", "other")]


def test_the_page_lies_in_the_folder_that_holds_the_runs_or_where_it_is_asked_for(
    two: list[Path], tmp_path: Path
) -> None:
    assert comparison.run(two) == tmp_path / "runs" / "comparison.html"
    page = (tmp_path / "runs" / "comparison.html").read_text()
    assert "<h1>runs</h1>" in page
    assert "not finished: step 5 of 10" in page
    out = tmp_path / "new" / "page.html"
    assert comparison.run(two[::-1], out=out) == out
    assert out.read_text().index("other") < out.read_text().index("one</th>")
    with pytest.raises(FmnistError, match="new is a directory: give a file for --out"):
        comparison.run(two, out=out.parent)


def test_the_folder_that_holds_them_is_found_by_way_of_others(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    page = comparison.run([two[0], Path("..", "runs", "other")])
    assert page == tmp_path / "runs" / "comparison.html"
    assert "other</th>" in page.read_text()
    assert ".." not in re.findall(r"<h1>.*?</table>", page.read_text(), re.DOTALL)[0]


def test_what_a_run_has_written_at_its_end_is_what_is_compared(two: list[Path]) -> None:
    labels = np.asarray(load(from_dict(json.loads((two[0] / "config.json").read_text())).data).test.labels)
    take_all_steps(two[1])
    np.savez(two[1] / "predictions.npz", logits=9 * np.eye(10, dtype=np.float32)[labels], labels=labels)
    (two[1] / "summary.json").write_text(json.dumps({"train_seconds": 9.0}))
    page = comparison.run(two).read_text()
    assert "<b>100.00%</b>" in page
    assert "9 s" in page


def test_what_is_no_run_is_refused_by_name(two: list[Path], tmp_path: Path) -> None:
    with pytest.raises(FmnistError, match=r"nothing has no config\.json"):
        comparison.run([two[0], tmp_path / "nothing"])
    assert not list(tmp_path.rglob("comparison.html"))


def test_runs_of_other_data_or_classes_are_refused_and_both_are_named() -> None:
    one = made("one", 1)
    names = tuple(f"class {number}" for number in range(10))
    real = replace(one.config, data=DataConfig())
    named = Dataset(one.test.images, one.test.labels, names)
    others = {
        "fashion_mnist, 28x28x1 and 10 classes .T-shirt/top, ": one._replace(config=real),
        "synthetic, 28x28x1 and 10 classes .class 0, ": one._replace(test=named),
        "synthetic, 14x28x1 and 10 ": one._replace(test=Dataset(one.test.images[:, :14], one.test.labels)),
    }
    for words, other in others.items():
        with pytest.raises(FmnistError, match=f"^a uses synthetic, 28x28x1 .*, and b {words}.*compare runs on the"):
            comparison.refuse_other_classes(Path("a"), one, Path("b"), other)
    comparison.refuse_other_classes(Path("a"), one, Path("b"), one)
