"""Where the files of a data set lie, by what flags, the environment and the record of a run say."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from fmnist_jax.config import paths
from fmnist_jax.config.schema import DataConfig
from fmnist_jax.errors import DataError

_DATA_VARIABLES = ("FMNIST_DATA_DIR", "TFDS_DATA_DIR")
_RAW_VARIABLE = "FMNIST_RAW_DIR"
DESCRIPTION = Path("fashion_mnist", "3.0.1", "dataset_info.json")
"""What TFDS writes last, in its directory, of a data set that it has prepared."""
_OURS = "array_record"  # which can be read without TensorFlow


@dataclass(frozen=True)
class Places:
    """Where the data lie, for a command that takes everything else from a run."""

    dir: Path | None = None
    """TFDS's data directory. Default: $FMNIST_DATA_DIR, else the one that the run was trained from, else TFDS's own."""
    raw_dir: Path | None = None
    """Folder with the four original .gz files, if they have yet to be prepared. Default: $FMNIST_RAW_DIR.
    Of a run on idx: the folder of its files, if it has moved."""
    file: Path | None = None
    """The .npz file of a run on npz, if it has moved."""


def data_dir(config: DataConfig) -> Path:
    """TFDS's data directory: the configured one, else $FMNIST_DATA_DIR, else TFDS's own default.

    Raises:
      DataError: it cannot be one, or there is no home directory for the default.
    """
    if config.dir is not None:
        return _usable(config.dir, "--data.dir")
    for variable in _DATA_VARIABLES:
        if named := os.environ.get(variable):
            return _usable(Path(named), variable)
    default = paths.expanded("~/tensorflow_datasets")
    if not default.is_absolute():
        raise DataError("there is no home directory for the data set: name a folder by --data.dir or FMNIST_DATA_DIR")
    return default


def raw_dir(config: DataConfig) -> Path | None:
    """The folder of the original files: the configured one, else $FMNIST_RAW_DIR, else none.

    Raises:
      DataError: it cannot be one.
    """
    if config.raw_dir is not None:
        return _usable(config.raw_dir, "--data.raw-dir")
    named = os.environ.get(_RAW_VARIABLE)
    return _usable(Path(named), _RAW_VARIABLE) if named else None


def tfds_dir(data_dir: Path) -> Path:
    """The directory that TFDS is given: the data directory, or one in it that is ours alone.

    That is so where TensorFlow's TFDS has prepared `fashion_mnist` already, in a format that only TensorFlow reads, or
    where what lies there cannot be understood: nothing in it is changed.
    """
    try:
        theirs = json.loads((data_dir / DESCRIPTION).read_text()).get("fileFormat") != _OURS
    except FileNotFoundError:
        theirs = False
    except (OSError, ValueError, AttributeError, RecursionError):
        theirs = True
    return data_dir / "fmnist_jax" if theirs else data_dir


def located(recorded: DataConfig, given: Places | None = None) -> DataConfig:
    """A recorded configuration with the places of here and now.

    What is given comes first, then the environment; what was recorded is a hint, followed where there still is
    something.

    Args:
      recorded: of a run, which may have been trained elsewhere.
      given: by flags.
    """
    given = given or Places()
    if recorded.name in ("idx", "npz"):  # which can lie nowhere else, so that one that is missing is to be named
        return replace(recorded, raw_dir=given.raw_dir or recorded.raw_dir, file=given.file or recorded.file)
    told = any(os.environ.get(variable) for variable in _DATA_VARIABLES)
    kept = None if told or not _holds_data(recorded.dir) else recorded.dir
    kept_raw = None if os.environ.get(_RAW_VARIABLE) or not _is_folder(recorded.raw_dir) else recorded.raw_dir
    return replace(recorded, dir=given.dir or kept, raw_dir=given.raw_dir or kept_raw, file=given.file)


def _holds_data(directory: Path | None) -> bool:
    return directory is not None and _is_folder(directory / "fashion_mnist")


def _is_folder(path: Path | None) -> bool:
    try:
        return path is not None and path.is_dir()
    except OSError:  # it may not be looked into, or its name is too long
        return False


def _usable(path: Path, flag: str) -> Path:
    path = paths.expanded(path)
    if (problem := paths.problem(path, flag)) is not None:
        raise DataError(problem)
    return path.absolute()
