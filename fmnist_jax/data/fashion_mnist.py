"""Fashion-MNIST through TFDS, without TensorFlow.

TFDS downloads, checks and stores; what is on disk afterwards is its own `fashion_mnist/3.0.1`. Its builder
reads, unzips and encodes with TensorFlow, so the subclass here does those three with NumPy, gzip and Pillow.
This is the only module that imports `tensorflow_datasets`, and only `decoded.load` imports this one, when there
is no decoded copy yet.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download import checksums, resource
from tensorflow_datasets.image_classification import mnist

from fmnist_jax.data import download, places
from fmnist_jax.data.idx import FILES, read_idx
from fmnist_jax.errors import DataError, FmnistError, in_one_line
from fmnist_jax.system import lock, output
from fmnist_jax.system.signals import unwind_on_signal
from fmnist_jax.system.storage import remove_stale

_FILES = {
    split: tuple(f"{FILES[f'{split}_{content}']}.gz" for content in ("images", "labels")) for split in ("train", "test")
}
_URL = mnist.FashionMNIST.URL


class FashionMNIST(mnist.FashionMNIST, skip_registration=True):  # type: ignore[call-arg]
    """TFDS's own builder (its name, version, features, addresses and checksums), reading without TensorFlow."""

    name = "fashion_mnist"

    def _info(self) -> tfds.core.DatasetInfo:
        info = super()._info()
        # TFDS's version asks a server for the sizes of missing splits, and leaves a temporary folder behind.
        info.initialize_from_bucket = lambda: None
        return info

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        paths = dl_manager.download({split: [_URL + name for name in names] for split, names in _FILES.items()})
        return {split: self._generate_examples(*paths[split]) for split in _FILES}

    def _generate_examples(self, images_path: os.PathLike, labels_path: os.PathLike) -> Iterator[tuple[int, dict]]:
        images = read_idx(Path(images_path))
        labels = read_idx(Path(labels_path))
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            png = io.BytesIO()
            Image.fromarray(image).save(png, format="PNG")
            png.seek(0)
            yield index, {"image": png, "label": int(label)}


def load(data_dir: Path, raw_dir: Path | None) -> dict[str, np.ndarray]:
    """Prepares the data set, unless that is already done, and decodes it.

    Returns:
      `train_images` u8[60000, 28, 28, 1], `train_labels` i32[60000], `test_images` u8[10000, 28, 28, 1] and
      `test_labels` i32[10000], in TFDS's order.

    Raises:
      DataError: a file is missing or wrong, there is no network, or `data_dir` is damaged or cannot be written.
      FmnistError: its lock file cannot be opened.
    """
    try:
        return decode(prepare(data_dir, raw_dir))
    except FmnistError:
        raise
    # TFDS and the readers beneath it raise many kinds of errors, including protobuf's and requests'.
    except Exception as error:
        reason = in_one_line(error)
        raise DataError(
            f"cannot prepare or read {places.tfds_dir(data_dir) / 'fashion_mnist'} ({reason}): "
            f"choose another --data.dir, or fix that"
        ) from error


def prepare(data_dir: Path, raw_dir: Path | None) -> tfds.core.DatasetBuilder:
    """Downloads (or takes from `raw_dir`) and prepares the data set, unless that is already done.

    Raises:
      DataError: a file is missing or wrong, or there is no network.
      FmnistError: the lock file of `data_dir` cannot be opened.
    """
    home, downloads = places.tfds_dir(data_dir), data_dir / "downloads"
    builder = _builder(home)
    if builder.info.splits:
        return builder
    if raw_dir is not None:
        _check_raw_files(raw_dir)
    elif not _is_downloaded(downloads):
        url, info = min(_url_infos().items(), key=lambda item: item[1].size)
        download.refuse_unreachable(download.RemoteFile(url, info.size, info.checksum), data_dir)
    home.mkdir(parents=True, exist_ok=True)
    with lock.wait_exclusive(home):
        builder = _builder(home)
        if builder.info.splits:  # another process has prepared it while this one waited
            return builder
        remove_stale(home / "fashion_mnist", "incomplete.*")  # as TFDS calls what it is preparing
        output.say(f"preparing Fashion-MNIST in {home}, once; this takes about 20 s after the download")
        tfds.disable_progress_bar()
        config = tfds.download.DownloadConfig(manual_dir=raw_dir, try_download_gcs=False)
        # TFDS prints a download of unknown size, and removes what it has half-prepared when it is interrupted.
        with contextlib.redirect_stdout(io.StringIO()), unwind_on_signal():
            builder.download_and_prepare(download_dir=downloads, download_config=config)
    return builder


def _builder(data_dir: Path) -> FashionMNIST:
    return FashionMNIST(data_dir=data_dir, file_format="array_record")


def _url_infos() -> dict[str, checksums.UrlInfo]:
    """What TFDS knows about each original file, by URL."""
    known = checksums.get_all_url_infos()
    return {_URL + name: known[_URL + name] for names in _FILES.values() for name in names}


def _is_downloaded(directory: Path) -> bool:
    """Whether TFDS has already downloaded every file."""
    names = (resource.get_dl_fname(url, info.checksum) for url, info in _url_infos().items())
    return all(resource.is_locally_cached(directory / name) for name in names)


def _check_raw_files(raw_dir: Path) -> None:
    """Compares the files with the SHA-256 values that TFDS lists, before TFDS copies any."""
    known = {url.removeprefix(_URL): info for url, info in _url_infos().items()}
    for name, info in known.items():
        path = raw_dir / name
        if not path.is_file():
            raise DataError(f"{path} is missing: --data.raw-dir (or FMNIST_RAW_DIR) must hold {', '.join(known)}")
        found = checksums.compute_url_info(path)
        if found.checksum != info.checksum:
            raise DataError(
                f"{path} has SHA-256 {found.checksum}, expected {info.checksum}: it is damaged, or another "
                f"data set (or an error page); download it again from {_URL}{name}"
            )


def decode(builder: tfds.core.DatasetBuilder) -> dict[str, np.ndarray]:
    """Reads every example in bulk, which takes a third of the time of reading them one at a time."""
    arrays = {}
    for split in _FILES:
        source = builder.as_data_source(split)
        examples = source.__getitems__(range(len(source)))
        arrays[f"{split}_images"] = np.stack([example["image"] for example in examples])
        arrays[f"{split}_labels"] = np.array([example["label"] for example in examples], np.int32)
    return arrays
