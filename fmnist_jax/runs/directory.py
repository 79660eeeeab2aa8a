"""The run directory and the files in it."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist_jax.config.record import from_dict
from fmnist_jax.config.schema import Config
from fmnist_jax.config.validation import without_unused_paths
from fmnist_jax.errors import ConfigError, FmnistError
from fmnist_jax.runs import json_lines
from fmnist_jax.system.storage import (
    check_writable,
    convert_write_errors,
    error_reason,
    error_remedy,
    make_directory,
    numbered,
    remove_unfinished,
    write_atomically,
    write_figure,
    write_text,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # takes half a second; a refused command line need not wait for it


# What is printed of a finished run, and compared when it is started again.
_SUMMARY_KEYS = frozenset(
    {
        *("preset", "dataset", "dataset_digest", "seed", "epochs", "train_seconds", "weakest_classes"),
        *("test_accuracy", "test_accuracy_mirrored", "test_loss", "test_examples"),
    }
)

RESUME_HINT = "start again with the same --run.dir"
"""What to do with a run that has failed, once the cause is mended."""

_MIN_FREE_FILES = 200  # per run: four checkpoints of some 30 files each, figures, logs


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        """Takes the path of the directory; `create` makes it."""
        self.path = path.absolute()

    def refuse_unwritable(self) -> None:
        """Checks, without making anything, that a run can be written there.

        Raises:
          FmnistError: it cannot.
        """
        check_writable(self.path, "--run.dir")

    def create(self) -> None:
        """Makes the directory if it is missing.

        Raises:
          FmnistError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _creation_error(self.path, error) from error

    def refuse_full_disk(self, bytes_needed: int) -> None:
        """Checks, without making anything, that the disk has room.

        Raises:
          FmnistError: it has fewer than `bytes_needed` bytes free, or no room for as many files as a run writes.
        """
        existing = next(path for path in (self.path, *self.path.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if free < bytes_needed:
            raise FmnistError(
                f"{self.path} has {free:,} bytes free and the run needs {bytes_needed:,}: "
                f"free space or choose another --run.dir"
            )
        files = _files_free(existing)
        if files is not None and files < _MIN_FREE_FILES:
            raise FmnistError(
                f"{self.path} has room for {files:,} more files and the run needs {_MIN_FREE_FILES:,}: "
                f"delete some there (df -i) or choose another --run.dir"
            )

    @property
    def checkpoints(self) -> Path:
        """Orbax's directory."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """One JSON object per line, one line per log interval or evaluation."""
        return self.path / "metrics.jsonl"

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Replaces a JSON file in one step, so that a reader never sees half of it."""
        self.write_text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Replaces a text file in one step."""
        write_text(self.path / name, text)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Reads a JSON file, or returns None if there is none."""
        return read_json(self.path / name)

    def read_summary(self) -> dict[str, Any] | None:
        """The results of the run, or None before its end.

        Raises:
          FmnistError: the file is damaged, or was written by another program.
        """
        summary = self.read_json("summary.json")
        if summary is not None and (missing := _SUMMARY_KEYS - summary.keys()):
            raise _damaged(self.path / "summary.json", f"it has no {min(missing)}")
        return summary

    def read_config(self) -> Config | None:
        """The configuration that the run was started with, or None if it has not been started."""
        return read_config(self.path)

    def remove_unfinished(self) -> None:
        """Removes partly written files left by a killed process; call it only when no other process is writing."""
        for folder in (self.path, self.path / "figures"):
            remove_unfinished(folder)

    def append(self, record: Mapping[str, Any]) -> None:
        """Appends a metrics line, in which a loss that is not finite is null."""
        with convert_write_errors(self.metrics, then=RESUME_HINT), self.metrics.open("a") as file:
            file.write(json_lines.to_line(record))

    def append_session(self, record: Mapping[str, Any]) -> None:
        """Appends to `sessions.jsonl` those settings of one start of the run that do not change what is trained."""
        # Rewritten as a whole, because a line of an earlier start may have been cut short.
        self.write_text("sessions.jsonl", "".join(map(json_lines.to_line, [*self.sessions(), record])))

    def sessions(self) -> list[dict[str, Any]]:
        """Reads the settings of each start of the run, leaving out a last line that a kill cut short."""
        return json_lines.read(self.path / "sessions.jsonl")

    def save_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes an uncompressed `.npz` file."""
        write_atomically(self.path / name, lambda file: np.savez(file, allow_pickle=False, **arrays))

    def save_figure(self, name: str, figure: "Figure") -> None:
        """Writes `figures/<name>.png`."""
        make_directory(self.path / "figures")
        write_figure(self.path / "figures" / f"{name}.png", figure)

    def records(self) -> list[dict[str, Any]]:
        """Reads the metrics lines, leaving out a last one that a kill cut short."""
        return read_records(self.path)

    def truncate_records(self, step: int) -> list[dict[str, Any]]:
        """Drops the metrics lines after a step, which a resumed run will write again; returns the rest."""
        remaining = [record for record in self.records() if record["step"] <= step]
        write_text(self.metrics, "".join(map(json_lines.to_line, remaining)))
        return remaining


def create_unique(path: Path) -> Path:
    """Makes a new directory at a path or, if that is taken, at the first free one with `-2`, `-3`, … appended.

    Raises:
      FmnistError: none can be made.
    """
    for candidate in numbered(path):
        try:
            candidate.parent.mkdir(parents=True, exist_ok=True)
            candidate.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise _creation_error(candidate, error) from error
        return candidate
    raise AssertionError("unreachable")


def _creation_error(path: Path, error: OSError) -> FmnistError:
    return FmnistError(f"cannot make {path} ({error_reason(error)}): {error_remedy(error)} or choose another --run.dir")


def _files_free(directory: Path) -> int | None:
    """How many more files a file system can hold; None if it has no limit or does not report one."""
    if not hasattr(os, "statvfs"):  # Windows
        return None
    found = os.statvfs(directory)
    return found.f_favail if found.f_files else None


def read_json(path: Path) -> dict[str, Any] | None:
    """Reads a JSON file, or returns None if there is none."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FmnistError(
            f"{path} cannot be read ({error_reason(error)}): {error_remedy(error)} or choose another run directory"
        ) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(value, dict):
        raise _damaged(path, f"it holds {type(value).__name__}, not an object")
    return value


def _damaged(path: Path, problem: str) -> FmnistError:
    return FmnistError(f"{path} is damaged ({problem}): restore it or choose another run directory")


def read_config(directory: Path) -> Config | None:
    """The configuration of the run in a directory, which may be read-only; None if there is none.

    Raises:
      ConfigError: it is not a configuration of this version of the package.
      FmnistError: it cannot be read.
    """
    path = directory / "config.json"
    values = read_json(path)
    if values is None:
        return None
    try:
        config = from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}: choose another run directory, or use the version that wrote it") from error
    return replace(config, data=without_unused_paths(config.data))


def require_config(directory: Path) -> Config:
    """The configuration of the run in a directory; raises as `read_config` does, and FmnistError if there is none."""
    if (config := read_config(directory)) is None:
        raise FmnistError(f"{directory} has no config.json: give a run directory written by fmnist_jax.train")
    return config


def read_records(directory: Path) -> list[dict[str, Any]]:
    """Reads the metrics lines of the run in a directory, leaving out a last one that a kill cut short."""
    return json_lines.read(directory / "metrics.jsonl")
