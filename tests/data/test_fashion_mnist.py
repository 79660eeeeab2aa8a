"""Fashion-MNIST on disk: the original files read by hand are the oracle for what comes through TFDS."""

import gzip
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
import urllib3.util.connection
from tensorflow_datasets.core.download import resource
from tensorflow_datasets.image_classification import mnist

from fmnist_jax.config.schema import DataConfig
from fmnist_jax.data import dataset, download, fashion_mnist
from fmnist_jax.data.dataset import Splits
from fmnist_jax.data.idx import read_idx
from fmnist_jax.errors import DataError
from fmnist_jax.system import lock

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
NAMES = [name for names in FILES.values() for name in names]


def encode_idx(array: np.ndarray) -> bytes:
    """The IDX format as its authors describe it: 0, 0, type, dimensions, sizes (big-endian), bytes."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def prepare_error(directory: Path, raw_dir: Path | None) -> str:
    """The one-line error of a preparation, which must leave nothing that looks prepared."""
    with pytest.raises(DataError) as exc_info:
        fashion_mnist.prepare(directory, raw_dir)
    assert not list(directory.rglob("*.array_record*"))
    assert not list(directory.rglob("dataset_info.json"))
    assert len(str(exc_info.value).splitlines()) == 1
    return str(exc_info.value)


def write_other_files(directory: Path) -> Path:
    """Writes four valid files of another data set under the right names."""
    directory.mkdir()
    for images, labels in FILES.values():
        (directory / images).write_bytes(gzip.compress(encode_idx(np.zeros((3, 28, 28), np.uint8))))
        (directory / labels).write_bytes(gzip.compress(encode_idx(np.zeros(3, np.uint8))))
    return directory


@pytest.mark.parametrize("exists", [True, False])
def test_raw_dir_without_the_original_files_is_rejected(exists: bool, tmp_path: Path) -> None:
    raw_dir = tmp_path / "raw"
    if exists:
        raw_dir.mkdir()
    message = prepare_error(tmp_path / "data", raw_dir)
    assert message.startswith(f"{raw_dir / NAMES[0]} is missing: --data.raw-dir (or FMNIST_RAW_DIR) must hold")
    assert all(name in message for name in NAMES)


def test_raw_files_of_another_data_set_are_rejected(tmp_path: Path) -> None:
    raw_dir = write_other_files(tmp_path / "raw")
    message = prepare_error(tmp_path / "data", raw_dir)
    assert f"{raw_dir / FILES['train'][0]} has SHA-256" in message
    assert "download it again from http" in message


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), TimeoutError("timed out")])
def test_missing_network_is_reported_at_once_with_a_workaround(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib3.util.connection, "create_connection", fail)
    # If it were reached, TFDS would retry for minutes.
    monkeypatch.setattr(fashion_mnist.FashionMNIST, "download_and_prepare", lambda *_, **__: pytest.fail("retries"))
    message = prepare_error(tmp_path / "data", None)
    assert str(error) in message
    assert "--data.raw-dir (or FMNIST_RAW_DIR)" in message


def test_data_directory_that_cannot_be_created_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    raw_dir = write_other_files(tmp_path / "raw")
    monkeypatch.setattr(fashion_mnist, "_check_raw_files", lambda _: None)  # which would refuse first
    message = r"cannot prepare or read .*file.data.*Not a directory.*choose another --data\.dir"
    with pytest.raises(DataError, match=message):
        fashion_mnist.load(tmp_path / "file" / "data", raw_dir)


def test_damaged_preparation_is_a_one_line_error_that_does_not_advise_deletion(tmp_path: Path) -> None:
    version = tmp_path / "fashion_mnist" / "3.0.1"
    version.mkdir(parents=True)
    (version / "dataset_info.json").write_text('{"name": "fashion_mnist", "fileFormat": "array_record"}')
    with pytest.raises(DataError, match=r"--data\.dir") as exc_info:
        dataset.load(DataConfig(dir=tmp_path, raw_dir=tmp_path / "none"))
    assert len(str(exc_info.value).splitlines()) == 1
    assert "delete" not in str(exc_info.value)


def test_data_are_prepared_beside_tfrecords_from_the_same_downloads(
    raw_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tmp_path / "fashion_mnist" / "3.0.1"
    version.mkdir(parents=True)
    (version / "dataset_info.json").write_text('{"fileFormat": "tfrecord"}')
    _write_tfds_downloads(raw_dir, tmp_path / "downloads")
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(
        fashion_mnist.FashionMNIST,
        "download_and_prepare",
        lambda self, **arguments: calls.append({**arguments, "self": self}),
    )
    monkeypatch.setattr(download, "refuse_unreachable", lambda *_: pytest.fail("asks the network"))
    fashion_mnist.prepare(tmp_path, None)  # from the downloads alone
    (arguments,) = calls
    assert arguments["download_dir"] == tmp_path / "downloads"
    assert arguments["download_config"].manual_dir is None
    assert str(arguments["self"].data_dir) == str(tmp_path / "fmnist_jax" / "fashion_mnist" / "3.0.1")
    assert [path.name for path in (tmp_path / "fashion_mnist").rglob("*")] == ["3.0.1", "dataset_info.json"]


def _write_tfds_downloads(raw_dir: Path, downloads: Path) -> None:
    """Writes the original files where TFDS keeps its downloads."""
    downloads.mkdir()
    for url, info in fashion_mnist._url_infos().items():
        path = downloads / resource.get_dl_fname(url, info.checksum)
        path.write_bytes((raw_dir / url.rpartition("/")[2]).read_bytes())
        metadata = {"urls": [url], "original_fname": url.rpartition("/")[2]}
        resource.get_info_path(path).write_text(json.dumps(metadata))


@pytest.fixture(scope="module")
def directory(real_data_dir: Path) -> Path:
    return real_data_dir


@pytest.fixture(scope="module")
def splits(directory: Path) -> Splits:
    return dataset.load(DataConfig(dir=directory, raw_dir=directory / "none"))


def example_counts(images: np.ndarray, labels: np.ndarray) -> Counter[bytes]:
    """Examples as a multiset of the bytes of pixels and label."""
    pixels = np.asarray(images).reshape(len(images), 784)
    return Counter(row.tobytes() for row in np.hstack([pixels, labels[:, None].astype(np.uint8)]))


def test_splits_have_the_published_sizes_and_are_balanced(splits: Splits) -> None:
    assert [len(part) for part in splits] == [55_000, 5_000, 10_000]
    for part, per_class in zip(splits, (5_500, 500, 1_000), strict=True):
        assert np.bincount(part.labels).tolist() == [per_class] * 10


def test_pixels_and_labels_match_the_original_files(splits: Splits, raw_dir: Path) -> None:
    for split, parts in (("train", splits[:2]), ("test", splits[2:])):
        images, labels = (gzip.decompress((raw_dir / name).read_bytes()) for name in FILES[split])
        expected = example_counts(
            np.frombuffer(images, np.uint8)[16:].reshape(-1, 784), np.frombuffer(labels, np.uint8)[8:]
        )
        assert sum((example_counts(part.images, part.labels) for part in parts), Counter()) == expected


def test_training_images_have_the_published_mean_and_std(directory: Path) -> None:
    examples = dataset.load(DataConfig(dir=directory, validation_size=0)).train
    actual = dataset.statistics(examples)
    assert (round(actual.mean, 4), round(actual.std, 4)) == (0.2860, 0.3530)


def test_stock_tfds_reads_the_prepared_data(directory: Path) -> None:
    builder = tfds.builder_from_directory(str(directory / "fashion_mnist" / "3.0.1"))
    assert (builder.name, str(builder.version)) == ("fashion_mnist", "3.0.1")
    loaded = dataset.load(DataConfig(dir=directory, validation_size=0))
    for split, expected, stride in (("train", loaded.train, 40), ("test", loaded.test, 5)):
        source = builder.as_data_source(split)
        assert len(source) == len(expected)
        indices = range(0, len(source), stride)
        examples = source.__getitems__(indices)
        np.testing.assert_array_equal(np.stack([example["image"] for example in examples]), expected.images[::stride])
        assert [example["label"] for example in examples] == expected.labels[::stride].tolist()


def test_prepare_leaves_nothing_in_the_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with pytest.raises(DataError, match="is missing"):
        fashion_mnist.prepare(tmp_path / "data", tmp_path / "none")
    assert list(temporary.iterdir()) == []
    # The control: TFDS's own builder leaves a folder.
    mnist.FashionMNIST(data_dir=tmp_path / "data", file_format="array_record")
    assert len(list(temporary.iterdir())) == 1


def test_prepared_data_do_not_need_the_original_files(directory: Path) -> None:
    builder = fashion_mnist.prepare(directory, directory / "none")
    assert builder.info.splits["train"].num_examples == 60_000


def test_data_prepared_meanwhile_by_another_process_are_used(
    directory: Path, raw_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def lock_after_preparation(path: Path) -> Iterator[None]:
        shutil.copytree(directory / "fashion_mnist" / "3.0.1", path / "fashion_mnist" / "3.0.1")
        yield

    def fail_if_called(*args: object, **kwargs: object) -> None:
        raise AssertionError("it is prepared a second time")

    monkeypatch.setattr(lock, "wait_exclusive", lock_after_preparation)
    monkeypatch.setattr(fashion_mnist.FashionMNIST, "download_and_prepare", fail_if_called)
    assert fashion_mnist.prepare(tmp_path, raw_dir).info.splits["test"].num_examples == 10_000


def test_tensorflow_is_never_imported(raw_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").touch()  # so that importing it would succeed
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from fmnist_jax.data import fashion_mnist\n"
        "read_idx = fashion_mnist.read_idx\n"
        "fashion_mnist.read_idx = lambda path: read_idx(path)[:20]\n"
        "arrays = fashion_mnist.load(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(len(arrays['train_images']), 'tensorflow' in sys.modules)"
    )
    paths = os.pathsep.join([str(tmp_path), str(Path(fashion_mnist.__file__).parents[2])])
    command = [sys.executable, "-c", program, str(tmp_path / "data"), str(raw_dir)]
    environment = {**os.environ, "PYTHONPATH": paths}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert result.stdout.split()[-2:] == ["20", "False"], result.stderr


def test_damaged_file_of_prepared_data_is_a_one_line_error(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory / "fashion_mnist" / "3.0.1", tmp_path / "fashion_mnist" / "3.0.1")
    (shard,) = tmp_path.rglob("*-train.array_record*")
    shard.write_bytes(shard.read_bytes()[:1_000_000])
    with pytest.raises(DataError) as exc_info:
        dataset.load(DataConfig(dir=tmp_path))
    assert len(str(exc_info.value).splitlines()) == 1


@pytest.mark.parametrize("name", NAMES)
def test_each_missing_original_file_is_named(name: str, raw_dir: Path, tmp_path: Path) -> None:
    partial = tmp_path / "raw"
    partial.mkdir()
    for other in NAMES:
        if other != name:
            (partial / other).symlink_to(raw_dir / other)
    assert prepare_error(tmp_path / "data", partial).startswith(f"{partial / name} is missing")


@pytest.mark.parametrize("error", [DataError("no images here"), KeyboardInterrupt("stopped")])
def test_interrupted_preparation_is_not_used(
    error: BaseException, raw_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original_read_idx = read_idx

    def stop_at_the_test_images(path: Path) -> np.ndarray:
        array = original_read_idx(path)
        if len(array) == 10_000:
            raise error
        return array[:20]

    monkeypatch.setattr(fashion_mnist, "read_idx", stop_at_the_test_images)
    with pytest.raises(type(error), match=str(error)):
        fashion_mnist.prepare(tmp_path, raw_dir)
    monkeypatch.undo()
    assert not fashion_mnist.FashionMNIST(data_dir=tmp_path, file_format="array_record").info.splits
