"""The number of images that a run trains on and their paths, once the data are loaded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fmnist_jax.config.schema import Config, DataConfig, InitConfig
from fmnist_jax.data.dataset import Dataset, Splits, load
from fmnist_jax.data.resolution import resolve, with_splits
from fmnist_jax.errors import ConfigError, DataError


def _dataset(size: int, names: tuple[str, ...] = ("a", "b"), edge: int = 8) -> Dataset:
    return Dataset(np.zeros((size, edge, edge), np.uint8), np.arange(size) % 2, names)


_SPLITS = Splits(_dataset(30), _dataset(6), _dataset(4))


def test_with_splits_records_total_and_validation_size() -> None:
    config = with_splits(Config(data=DataConfig(dir=Path("elsewhere"), seed=3)), _SPLITS)
    assert config.data == DataConfig(name="own", total=36, validation_size=6, seed=3)
    assert (config.data.train_size, config.steps(1)) == (30, 1)


def test_total_steps_of_uncounted_files_raise_an_error() -> None:
    config = Config(data=DataConfig(name="npz", file=Path("a.npz")))
    with pytest.raises(ConfigError, match=r"data\.total is 0, so the number of npz images is unknown"):
        _ = config.total_steps


def test_resolve_records_the_number_of_images_and_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config(data=DataConfig(name="npz", file=Path("a.npz")))
    resolved = resolve(config, _SPLITS)
    assert resolved.data == replace(config.data, total=36, file=tmp_path / "a.npz")
    assert resolve(resolved, _SPLITS) == resolved
    with pytest.raises(DataError, match=r"data\.total is 36, but there are 30 images"):
        resolve(resolved, _SPLITS._replace(validation=_dataset(0)))
    synthetic = Config(data=DataConfig(name="synthetic"))
    assert resolve(synthetic, _SPLITS) == synthetic


def test_resolve_records_absolute_paths_from_config_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMNIST_DATA_DIR", "prepared")
    monkeypatch.setenv("FMNIST_RAW_DIR", "raw")
    resolved = resolve(Config(), _SPLITS)
    assert (resolved.data.dir, resolved.data.raw_dir) == (tmp_path / "prepared", None)
    config = Config(data=DataConfig(dir=Path("there"), raw_dir=Path("raw")), init=InitConfig(source=Path("runs/a")))
    assert resolve(config, _SPLITS).data.dir == tmp_path / "there"
    assert resolve(config, _SPLITS).data.raw_dir == tmp_path / "raw"
    assert resolve(config, _SPLITS).init.source == tmp_path / "runs" / "a"


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (_SPLITS._replace(train=_dataset(0)), "there are no train images"),
        (_SPLITS._replace(test=_dataset(0)), "there are no test images"),
        (_SPLITS._replace(test=_dataset(4, edge=9)), "test images are 9x9x1 of 2 classes, and training images 8x8x1"),
        (
            _SPLITS._replace(validation=_dataset(2, ("a", "c"))),
            "class 1 of the validation images is 'c', and of the training images 'b'",
        ),
    ],
)
def test_empty_or_incompatible_splits_are_rejected(splits: Splits, message: str) -> None:
    with pytest.raises(DataError, match=message):
        with_splits(Config(), splits)


def test_data_passed_in_python_cannot_be_loaded() -> None:
    with pytest.raises(
        DataError, match=r"is own: its images were passed in Python .* fmnist_jax\.run\(config, splits\)"
    ):
        load(DataConfig(name="own", total=36, validation_size=6))
