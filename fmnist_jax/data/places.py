"""Where the files of a data set are, according to flags, the environment and the record of a run."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from fmnist_jax.config import paths
from fmnist_jax.config.schema import DataConfig
from fmnist_jax.config.validation import unused_paths
from fmnist_jax.errors import DataError

_DATA_VARIABLES = ("FMNIST_DATA_DIR", "TFDS_DATA_DIR")
_RAW_VARIABLE = "FMNIST_RAW_DIR"
DESCRIPTION = Path("fashion_mnist", "3.0.1", "dataset_info.json")
"""The file that TFDS writes last when it prepares a data set, relative to its directory."""
_READABLE_FORMAT = "array_record"  # which can be read without TensorFlow


@dataclass(frozen=True)
class DataPaths:
    """Where the data are, for a command that takes everything else from a run."""

    dir: Path | None = None
    """TFDS's data directory. Default: $FMNIST_DATA_DIR, else the one that the run was trained from, else TFDS's own."""
    raw_dir: Path | None = None
    """Folder with the four original .gz files, if they have yet to be prepared. Default: $FMNIST_RAW_DIR.
    For a run on idx: the folder of its files, if it has moved."""
    file: Path | None = None
    """For a run on npz: its .npz file, if it has moved."""


def data_dir(config: DataConfig) -> Path:
    """TFDS's data directory: the configured one, else $FMNIST_DATA_DIR, else $TFDS_DATA_DIR, else TFDS's default.

    Raises:
      DataError: the path is unusable, or there is no home directory for the default.
    """
    if config.dir is not None:
        return _expand(config.dir, "--data.dir")
    for variable in _DATA_VARIABLES:
        if value := os.environ.get(variable):
            return _expand(Path(value), variable)
    default = paths.expand("~/tensorflow_datasets")
    if not default.is_absolute():
        raise DataError("there is no home directory for the data set: give a folder with --data.dir or FMNIST_DATA_DIR")
    return default


def raw_dir(config: DataConfig) -> Path | None:
    """The folder of the original files: the configured one, else $FMNIST_RAW_DIR, else none.

    Raises:
      DataError: the path is unusable.
    """
    if config.raw_dir is not None:
        return _expand(config.raw_dir, "--data.raw-dir")
    value = os.environ.get(_RAW_VARIABLE)
    return _expand(Path(value), _RAW_VARIABLE) if value else None


def tfds_dir(data_dir: Path) -> Path:
    """The directory that TFDS is given: the data directory, or `fmnist_jax` in it.

    The latter is used if TensorFlow's TFDS has already prepared `fashion_mnist` in a format that only TensorFlow reads,
    or if what is there cannot be read; those files are left unchanged.
    """
    try:
        is_incompatible = json.loads((data_dir / DESCRIPTION).read_text()).get("fileFormat") != _READABLE_FORMAT
    except FileNotFoundError:
        is_incompatible = False
    except (OSError, ValueError, AttributeError, RecursionError):
        is_incompatible = True
    return data_dir / "fmnist_jax" if is_incompatible else data_dir


def with_local_paths(recorded: DataConfig, overrides: DataPaths | None = None) -> DataConfig:
    """A recorded configuration with the data paths of this machine and environment.

    Given paths come first, then the environment, then recorded paths if something is still there. On idx and npz,
    recorded paths that are not replaced stay, whatever is there.

    Args:
      recorded: configuration of a run, which may have been trained elsewhere.
      overrides: paths from flags.

    Raises:
      DataError: one of the flags is not for data of this kind.
    """
    overrides = overrides or DataPaths()
    given = {"dir": overrides.dir, "raw_dir": overrides.raw_dir, "file": overrides.file}
    for flag, value in unused_paths(recorded.name, **given):
        raise DataError(f"{flag} is {value}, which a run on {recorded.name} data does not use: omit it")
    if recorded.name in ("idx", "npz"):  # no other place to look: a missing path stays, to be named
        return replace(recorded, raw_dir=overrides.raw_dir or recorded.raw_dir, file=overrides.file or recorded.file)
    dir_from_env = any(os.environ.get(variable) for variable in _DATA_VARIABLES)
    recorded_dir = None if dir_from_env or not _holds_data(recorded.dir) else recorded.dir
    recorded_raw_dir = None if os.environ.get(_RAW_VARIABLE) or not _is_folder(recorded.raw_dir) else recorded.raw_dir
    return replace(recorded, dir=overrides.dir or recorded_dir, raw_dir=overrides.raw_dir or recorded_raw_dir)


def _holds_data(directory: Path | None) -> bool:
    return directory is not None and _is_folder(directory / "fashion_mnist")


def _is_folder(path: Path | None) -> bool:
    try:
        return path is not None and path.is_dir()
    except OSError:  # it may not be accessible, or its name is too long
        return False


def _expand(path: Path, flag: str) -> Path:
    return paths.expand_checked(path, flag, DataError).absolute()
