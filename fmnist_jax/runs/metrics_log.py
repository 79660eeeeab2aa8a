"""Turns the metrics of a run into lines in a file and on the screen."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import jax
import numpy as np

from fmnist_jax.errors import DivergenceError
from fmnist_jax.functional import metrics
from fmnist_jax.runs.directory import RunDirectory
from fmnist_jax.runs.display import Display
from fmnist_jax.system.compilation import XLA_ERRORS


class _CompletionTimer(threading.Thread):
    """Records when a chunk ended, which the loop itself may notice late.

    On a GPU the host decides before each step whether another follows. So the call that starts the next chunk returns
    when that chunk is almost done, long after this one was.

    It is not a daemon thread: an interpreter that exits while one waits for a device aborts.
    """

    def __init__(self, rows: metrics.Metrics) -> None:
        super().__init__()
        self._rows = rows
        self.end_time = 0.0  # seconds of time.perf_counter
        self.start()

    def run(self) -> None:
        try:
            with suppress(*XLA_ERRORS):  # raised again where the metrics are read
                jax.block_until_ready(self._rows)
        finally:
            self.end_time = time.perf_counter()


class _Chunk(NamedTuple):
    """A chunk that has been started but not yet logged."""

    start: int
    end: int
    rows: metrics.Metrics
    start_time: float
    timer: _CompletionTimer


class MetricsLog:
    """Writes and shows a line for each chunk of training and each evaluation."""

    def __init__(
        self,
        directory: RunDirectory | None,
        display: Display,
        learning_rates: np.ndarray,
        epochs_per_step: float,
        start: int,
    ) -> None:
        """Starts a log, dropping the lines of later steps that an earlier session wrote.

        Args:
          directory: the run directory; None where another process writes it.
          display: also receives each line.
          learning_rates: f32[total_steps], one per step.
          epochs_per_step: the share of the training images in one batch.
          start: steps already taken.
        """
        records = directory.truncate_records(start) if directory is not None else []
        self._directory = directory
        self._display = display
        self._learning_rates = learning_rates
        self._epochs_per_step = epochs_per_step
        self._pending_chunk: _Chunk | None = None
        self._clock = time.perf_counter()
        self._elapsed = records[-1]["elapsed_seconds"] if records else 0.0

    def add_chunk(self, start: int, end: int, rows: metrics.Metrics, start_time: float) -> None:
        """Registers a chunk that has been started, once the previous one has ended and been logged.

        Args:
          start: its first step.
          end: one past its last step.
          rows: its metrics, each leaf with a leading axis of at least `end - start` steps; for a population, with an
            axis of members before it.
          start_time: seconds of `time.perf_counter` before the call that started it.

        Raises:
          DivergenceError: a loss of the previous chunk is not finite.
        """
        self.flush()
        self._pending_chunk = _Chunk(start, end, rows, start_time, _CompletionTimer(rows))

    def flush(self) -> None:
        """Waits for the running chunk, if any, and logs it.

        Raises:
          DivergenceError: one of its losses is not finite.
        """
        if self._pending_chunk is None:
            return
        start, end, rows, start_time, timer = self._pending_chunk
        self._pending_chunk = None
        timer.join()
        rows = jax.device_get(rows)
        losses = np.atleast_2d(rows.loss_sum)[:, : end - start]
        if not np.isfinite(losses).all():
            step = start + int(np.flatnonzero(~np.isfinite(losses).all(0))[0])
            raise DivergenceError(
                f"the training loss is not finite at step {step}, where the learning rate is "
                f"{self._learning_rates[step]:.3g}: lower --optim.peak-lr (with muon also --optim.rest-lr) or set "
                "--optim.clip-norm, with another --run.dir; earlier checkpoints are intact"
            )
        members = metrics.summarize_members(metrics.Metrics(losses.sum(-1), rows.confusion.sum(-3)))
        # A chunk waits for the one before it; evaluation and saving, after which it begins, do not count in its rate.
        seconds = timer.end_time - max(start_time, self._clock)
        self._advance_clock(timer.end_time)
        self._write(
            end,
            **_metric_fields("train", members),
            learning_rate=float(self._learning_rates[end - 1]),
            images_per_second=sum(result.examples for result in members) / seconds,
        )

    def log_evaluation(self, step: int, members: Sequence[metrics.Summary]) -> None:
        """Logs an evaluation on the validation images, of one model or of each member of a population."""
        self._advance_clock(time.perf_counter())
        self._write(step, **_metric_fields("val", members))

    def _advance_clock(self, now: float) -> None:
        self._elapsed += now - self._clock
        self._clock = now

    def _write(self, step: int, **values: Any) -> None:
        record: dict[str, Any] = {
            "step": step,
            "epoch": round(step * self._epochs_per_step, 4),
            **values,
            "elapsed_seconds": round(self._elapsed, 3),
        }
        if self._directory is not None:
            self._directory.append(record)
        self._display.update(record)


def _metric_fields(images: str, members: Sequence[metrics.Summary]) -> dict[str, Any]:
    """Loss and accuracy on some images: those of one model, or the mean over members along with each member's."""
    per_member = {
        f"{images}_loss": [result.loss for result in members],
        f"{images}_accuracy": [result.accuracy for result in members],
    }
    mean = {name: float(np.mean(values)) for name, values in per_member.items()}
    return mean if len(members) == 1 else {**mean, "members": per_member}
