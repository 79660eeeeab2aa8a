import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmnist_jax.commands import exploration
from fmnist_jax.config.schema import DataConfig
from fmnist_jax.data import dataset
from fmnist_jax.errors import FmnistError
from fmnist_jax.functional.labels import CLASS_NAMES

CONFIG = DataConfig(name="synthetic", synthetic_train_size=120, synthetic_test_size=50, validation_size=20)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("new") / "exploration"
    exploration.run(CONFIG, path)
    return path


def test_exploration_json_describes_every_split(out: Path) -> None:
    document = json.loads((out / "exploration.json").read_text())
    splits = dataset.load(CONFIG)
    assert document["name"] == "synthetic"
    assert document["digest"] == dataset.digest(splits)
    assert document["splits"].keys() == {"train", "validation", "test"}
    for name, split in splits._asdict().items():
        summary = document["splits"][name]
        assert (summary["size"], summary["shape"], summary["dtype"]) == (len(split), [28, 28, 1], "uint8")
        assert summary["mean"] == pytest.approx(split.images.mean())
        assert summary["std"] == pytest.approx(split.images.std())
        assert (summary["lowest"], summary["highest"]) == (split.images.min(), split.images.max())
        assert list(summary["class_counts"]) == list(CLASS_NAMES)
        assert list(summary["class_counts"].values()) == np.bincount(split.labels, minlength=10).tolist()
    no_copies = {"images": 0, "pictures": 0, "conflicting": 0}
    names = ["train", "validation", "test", "test in validation", "test in train", "validation in train"]
    assert document["copies"] == dict.fromkeys(names, no_copies)


def test_only_the_json_and_readable_figures_are_written(out: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == [
        "augmentations.png",
        "averages.png",
        "exploration.json",
        "samples.png",
    ]
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            image.load()


def test_printed_tables_show_sizes_class_counts_and_copies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(exploration, "_figures", lambda _: iter(()))
    exploration.run(DataConfig(name="synthetic", synthetic_train_size=1200, validation_size=0), tmp_path)
    text = capsys.readouterr().out
    assert re.search(r"train\W+1,200\W+28x28x1\W+uint8\W+0\.\.255", text)
    assert "validation" not in text
    assert re.search(r"9\W+Ankle boot\W+120\W+200", text)
    assert re.search(r"test, also in train\W+0\W+0\W+0", text)


def test_unwritable_output_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FmnistError, match=r"cannot write .*file.out"):
        exploration.run(CONFIG, tmp_path / "file" / "out")
