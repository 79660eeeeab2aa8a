"""The run directory: configuration, environment, metrics lines and summary."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fmnist_jax import metrics
from fmnist_jax.config import Config, from_dict
from fmnist_jax.errors import DivergenceError, FmnistError
from fmnist_jax.optim import make_schedule

_PACKAGES = ("fmnist_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        """Makes the directory if it is missing.

        Raises:
          FmnistError: it cannot be made or written.
        """
        self.path = path.absolute()
        try:
            (self.path / "figures").mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise FmnistError(f"cannot write {self.path} ({error.strerror}): choose another --run.dir") from error

    @property
    def checkpoints(self) -> Path:
        """Orbax's directory."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, one line a log interval or evaluation."""
        return self.path / "metrics.jsonl"

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Replaces a JSON file in one step, so that a reader never sees half of it."""
        _replace(self.path / name, json.dumps(value, indent=2) + "\n")

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Reads a JSON file, or returns None if there is none."""
        path = self.path / name
        return json.loads(path.read_text()) if path.exists() else None

    def read_config(self) -> Config | None:
        """The configuration that the run was started with, or None if it has not been started."""
        values = self.read_json("config.json")
        return None if values is None else from_dict(values)

    def append(self, record: Mapping[str, Any]) -> None:
        """Appends a metrics line."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """Reads the metrics lines, leaving out a last one that a kill cut short."""
        if not self.metrics.exists():
            return []
        whole = (line for line in self.metrics.read_text().splitlines(keepends=True) if line.endswith("\n"))
        return [json.loads(line) for line in whole]

    def forget_after(self, step: int) -> list[dict[str, Any]]:
        """Drops the metrics lines past a step, which a resumed run will write again; returns those that stay."""
        kept = [record for record in self.records() if record["step"] <= step]
        _replace(self.metrics, "".join(json.dumps(record) + "\n" for record in kept))
        return kept


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text)
    unfinished.replace(path)


class MetricsLog:
    """Turns the numbers of chunks and evaluations into metrics lines."""

    def __init__(self, config: Config, directory: RunDirectory, start: int) -> None:
        """Starts after so many steps, dropping the lines of later ones that an earlier session wrote."""
        records = directory.forget_after(start)
        self._config = config
        self._directory = directory
        self._schedule = make_schedule(config.optim, config.total_steps)
        self._pending: tuple[int, int, metrics.Metrics] | None = None
        self._clock = time.perf_counter()
        self._elapsed = records[-1]["elapsed_seconds"] if records else 0.0
        self.dispatched = start

    def chunk(self, end: int, rows: metrics.Metrics, *, wait: bool) -> list[dict[str, Any]]:
        """Takes in a chunk that has been dispatched; returns the lines of those that are known to be done."""
        done = [self._pending] if self._pending else []
        self._pending = (self.dispatched, end, rows)
        self.dispatched = end
        if wait:
            done.append(self._pending)
            self._pending = None
        return [self._training(*chunk) for chunk in done]

    def _training(self, start: int, end: int, rows: metrics.Metrics) -> dict[str, Any]:
        losses = np.asarray(rows.loss_sum)[: end - start]
        if not np.isfinite(losses).all():
            step = start + int(np.flatnonzero(~np.isfinite(losses))[0])
            raise DivergenceError(
                f"the training loss is not finite at step {step}: lower --optim.peak-lr (it is "
                f"{self._config.optim.peak_lr}) or set --optim.clip-norm; earlier checkpoints are whole"
            )
        result = metrics.summarize(metrics.Metrics(losses.sum(), np.asarray(rows.confusion).sum(0)))
        seconds = self._lap()
        return self._write(
            end,
            train_loss=result.loss,
            train_accuracy=result.accuracy,
            learning_rate=float(self._schedule(end - 1)),
            images_per_second=result.examples / seconds,
        )

    def evaluation(self, step: int, result: metrics.Summary) -> dict[str, Any]:
        """Writes the line of an evaluation."""
        self._lap()
        return self._write(step, val_loss=result.loss, val_accuracy=result.accuracy)

    def _lap(self) -> float:
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        self._elapsed += seconds
        return seconds

    def _write(self, step: int, **values: float) -> dict[str, Any]:
        epoch = step * self._config.train.batch_size / self._config.data.train_size
        record = {"step": step, "epoch": round(epoch, 4), **values, "elapsed_seconds": round(self._elapsed, 3)}
        self._directory.append(record)
        return record


def environment() -> dict[str, Any]:
    """Describes what a run ran on: versions, devices, and the git commit of the package if it has one."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "backend": device.platform,
        "devices": [str(item.device_kind) for item in jax.devices()],
        "git_commit": _git_commit(),
        "command": sys.argv,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit checked out where the package lies, with `+changes` if files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+changes" if changed.stdout else commit
