"""The comparison page of several runs, rendered from their files."""

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
from fmnist_jax.errors import DataError, FmnistError
from fmnist_jax.runs import dataset_record
from tests.ended import take_all_steps
from tests.views.test_comparison_page import make_run


@pytest.fixture
def run_dirs(saved_run: Path, tmp_path: Path) -> list[Path]:
    for name in ("one", "other"):
        shutil.copytree(saved_run, tmp_path / "runs" / name)
    return [tmp_path / "runs" / name for name in ("one", "other")]


def test_page_is_written_to_the_parent_of_the_runs_or_to_out(run_dirs: list[Path], tmp_path: Path) -> None:
    assert comparison.run(run_dirs) == tmp_path / "runs" / "comparison.html"
    page = (tmp_path / "runs" / "comparison.html").read_text()
    assert "<h1>runs</h1>" in page
    assert "not finished: step 5 of 10" in page
    out = tmp_path / "new" / "page.html"
    assert comparison.run(run_dirs[::-1], out=out) == out
    assert out.read_text().index("other") < out.read_text().index("one</th>")
    with pytest.raises(FmnistError, match="new is a directory: give a file for --out"):
        comparison.run(run_dirs, out=out.parent)


def test_paths_may_be_text_and_begin_with_a_tilde(run_dirs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(run_dirs[0].parent))
    assert comparison.run(["~/one", str(run_dirs[1])], out="~/page.html") == run_dirs[0].parent / "page.html"


def test_runs_on_images_of_your_own_are_compared_on_the_images_given(run_dirs: list[Path]) -> None:
    config = json.loads((run_dirs[0] / "config.json").read_text())
    splits = load(from_dict(config).data)
    held_out, count = len(splits.validation), len(splits.train) + len(splits.validation)
    config["data"] |= {"name": "own", "total": count, "validation_size": held_out}
    for directory in run_dirs:
        (directory / "config.json").write_text(json.dumps(config))
        record = dataset_record.to_dict(dataset_record.describe(splits.test))
        (directory / "dataset.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"comparison\.run or exporting\.run"):
        comparison.run(run_dirs)
    assert "<h1>runs</h1>" in comparison.run(run_dirs, splits=splits).read_text()


def test_recipe_of_your_own_is_named_by_its_record(run_dirs: list[Path]) -> None:
    (run_dirs[1] / "recipe.json").write_text(json.dumps({"make_recipe": "with_sam", "own_network": False}))
    page = comparison.run(run_dirs).read_text()
    assert re.search(r">make_recipe</th>\s*<td>fmnist_jax\.make_recipe</td>\s*<td class=.other.>with_sam</td>", page)


def test_page_is_written_to_the_common_parent_of_relative_run_paths(
    run_dirs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    page = comparison.run([run_dirs[0], Path("..", "runs", "other")])
    assert page == tmp_path / "runs" / "comparison.html"
    assert "other</th>" in page.read_text()
    assert ".." not in re.findall(r"<h1>.*?</table>", page.read_text(), re.DOTALL)[0]


def test_finished_run_is_compared_by_its_recorded_predictions_and_summary(run_dirs: list[Path]) -> None:
    labels = np.asarray(load(from_dict(json.loads((run_dirs[0] / "config.json").read_text())).data).test.labels)
    take_all_steps(run_dirs[1])
    np.savez(run_dirs[1] / "predictions.npz", logits=9 * np.eye(10, dtype=np.float32)[labels], labels=labels)
    (run_dirs[1] / "summary.json").write_text(json.dumps({"train_seconds": 9.0}))
    page = comparison.run(run_dirs).read_text()
    assert "<b>100.00%</b>" in page
    assert "9 s" in page


def test_directory_that_is_not_a_run_is_rejected_by_name(run_dirs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(FmnistError, match=r"nothing has no config\.json"):
        comparison.run([run_dirs[0], tmp_path / "nothing"])
    assert not list(tmp_path.rglob("comparison.html"))


def test_runs_with_different_data_or_classes_are_rejected_naming_both() -> None:
    run = make_run("one", 1)
    names = tuple(f"class {number}" for number in range(10))
    fashion_mnist = replace(run.config, data=DataConfig())
    renamed = Dataset(run.test.images, run.test.labels, names)
    incompatible = {
        "fashion_mnist, 28x28x1 and 10 classes .T-shirt/top, ": run._replace(config=fashion_mnist),
        "synthetic, 28x28x1 and 10 classes .class 0, ": run._replace(test=renamed),
        "synthetic, 14x28x1 and 10 ": run._replace(test=Dataset(run.test.images[:, :14], run.test.labels)),
    }
    for description, other in incompatible.items():
        with pytest.raises(
            FmnistError, match=f"^a uses synthetic, 28x28x1 .*, and b {description}.*compare runs on the"
        ):
            comparison.refuse_other_classes(Path("a"), run, Path("b"), other)
    comparison.refuse_other_classes(Path("a"), run, Path("b"), run)
