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


def test_the_document_describes_every_split(out: Path) -> None:
    document = json.loads((out / "exploration.json").read_text())
    splits = dataset.load(CONFIG)
    assert document["name"] == "synthetic"
    assert document["digest"] == dataset.digest(splits)
    assert document["splits"].keys() == {"train", "validation", "test"}
    for name, split in splits._asdict().items():
        described = document["splits"][name]
        assert (described["size"], described["shape"], described["dtype"]) == (len(split), [28, 28, 1], "uint8")
        assert described["mean"] == pytest.approx(split.images.mean())
        assert described["std"] == pytest.approx(split.images.std())
        assert (described["lowest"], described["highest"]) == (split.images.min(), split.images.max())
        assert list(described["class_counts"]) == list(CLASS_NAMES)
        assert list(described["class_counts"].values()) == np.bincount(split.labels, minlength=10).tolist()
    nothing = {"images": 0, "pictures": 0, "conflicting": 0}
    names = ["train", "validation", "test", "test in validation", "test in train", "validation in train"]
    assert document["copies"] == dict.fromkeys(names, nothing)


def test_pictures_are_written_whole_and_nothing_else(out: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == [
        "augmentations.png",
        "averages.png",
        "exploration.json",
        "samples.png",
    ]
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            image.load()


def test_the_tables_tell_sizes_classes_and_copies(
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


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FmnistError, match="cannot write"):
        exploration.run(CONFIG, tmp_path / "file" / "out")
