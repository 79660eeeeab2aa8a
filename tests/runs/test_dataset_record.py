"""The data set record of a run, and what its absence means."""

import json
from pathlib import Path

import numpy as np
import pytest

from fmnist_jax.config.schema import Config, DataConfig
from fmnist_jax.data.dataset import Dataset
from fmnist_jax.errors import CheckpointError, FmnistError
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.runs import dataset_record
from fmnist_jax.runs.dataset_record import DatasetRecord

_OWN_DATA_CONFIG = Config(data=DataConfig(name="own", total=9))


def _write(directory: Path, record: DatasetRecord) -> None:
    (directory / dataset_record.DATASET_FILE).write_text(json.dumps(dataset_record.to_dict(record)))


def test_dataset_record_round_trips_through_its_file(tmp_path: Path) -> None:
    record = dataset_record.describe(Dataset(np.zeros((1, 9, 8, 3), np.uint8), np.zeros(1, int), ("é", "b")))
    assert record == DatasetRecord((9, 8, 3), ("é", "b"))
    assert record.num_classes == 2
    _write(tmp_path, record)
    assert dataset_record.read(tmp_path, _OWN_DATA_CONFIG) == record


def test_missing_record_means_fashion_mnist_classes_except_for_own_data(tmp_path: Path) -> None:
    for name in ("fashion_mnist", "synthetic"):
        config = Config(data=DataConfig(name=name))
        assert dataset_record.read(tmp_path, config) == ((28, 28, 1), CLASS_NAMES)
    with pytest.raises(FmnistError, match=r"dataset\.json is missing: restore it"):
        dataset_record.read(tmp_path, _OWN_DATA_CONFIG)


@pytest.mark.parametrize(
    "text", ["{}", '{"image_shape": [8, 8], "class_names": ["a"]}', '{"image_shape": 8}', "[", "[]"]
)
def test_damaged_record_raises_an_error_naming_the_file(text: str, tmp_path: Path) -> None:
    (tmp_path / dataset_record.DATASET_FILE).write_text(text)
    with pytest.raises(FmnistError, match=r"dataset\.json is damaged"):
        dataset_record.read(tmp_path, _OWN_DATA_CONFIG)


def test_refuse_other_rejects_another_image_shape_or_other_class_names(tmp_path: Path) -> None:
    record = DatasetRecord((8, 8, 3), tuple(map(str, range(12))))
    _write(tmp_path, record)
    dataset_record.refuse_other(tmp_path, _OWN_DATA_CONFIG, record)
    for other in (record._replace(image_shape=(8, 8, 1)), record._replace(class_names=record.class_names[:2])):
        with pytest.raises(
            CheckpointError, match=r"of 8x8x3 and 12 classes \(0, 1, .*, 8, 9, and 2 more\), and those found"
        ):
            dataset_record.refuse_other(tmp_path, _OWN_DATA_CONFIG, other)
