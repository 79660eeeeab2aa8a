"""What a run directory records of its data set, for code that reads the run before the images, or without them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fmnist_jax.config.schema import Config
from fmnist_jax.data.dataset import Dataset
from fmnist_jax.errors import CheckpointError, FmnistError, abbreviated
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.functional.model import IMAGE_SHAPE
from fmnist_jax.runs.directory import read_json

DATASET_FILE = "dataset.json"


class DatasetRecord(NamedTuple):
    """What must be known of the images that a network was trained on."""

    image_shape: tuple[int, int, int]
    """Height, width and channels."""
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


def describe(dataset: Dataset) -> DatasetRecord:
    """Describes a data set."""
    return DatasetRecord(dataset.image_shape, dataset.class_names)


def read(directory: Path, config: Config) -> DatasetRecord:
    """Reads the record in a run directory; version 0.1 wrote none, and trained on images of garments only.

    Raises:
      FmnistError: the record is damaged, or missing for a data set that version 0.1 did not have.
    """
    path = directory / DATASET_FILE
    values = read_json(path)
    if values is None and config.data.name in ("fashion_mnist", "synthetic"):
        return DatasetRecord(IMAGE_SHAPE, CLASS_NAMES)
    if values is None:
        raise FmnistError(f"{path} is missing: restore it, or give a complete run directory")
    try:
        height, width, channels = map(int, values["image_shape"])
        return DatasetRecord((height, width, channels), tuple(map(str, values["class_names"])))
    except (KeyError, TypeError, ValueError) as error:
        raise FmnistError(f"{path} is damaged ({error!r}): restore it, or give a complete run directory") from error


def refuse_other(directory: Path, config: Config, found: DatasetRecord) -> None:
    """Checks that a data set has the image shape and classes of the run that is to be resumed with it.

    Raises:
      CheckpointError: it has others.
    """
    recorded = read(directory, config)
    if recorded != found:
        raise CheckpointError(
            f"the run in {directory} has images of {to_text(recorded)}, and those found are of {to_text(found)}: "
            f"restore the original data set, or start anew with another --run.dir"
        )


def to_dict(record: DatasetRecord) -> Mapping[str, Any]:
    """Converts a record to values that JSON can hold."""
    return {"image_shape": list(record.image_shape), "class_names": list(record.class_names)}


def to_text(record: DatasetRecord) -> str:
    """The image shape and the classes, of which the first ten are named."""
    names = record.class_names
    return f"{'x'.join(map(str, record.image_shape))} and {len(names)} classes ({abbreviated(names, 10)})"
