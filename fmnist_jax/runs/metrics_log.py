"""Metrics lines out of the numbers of a run, in the file and on the screen."""

import time
from typing import Any

import jax
import numpy as np

from fmnist_jax.errors import DivergenceError
from fmnist_jax.functional import metrics
from fmnist_jax.runs.directory import RunDirectory
from fmnist_jax.runs.display import Display

_POLL = 0.001  # seconds between looks at a running chunk, in which Python can take in a signal


class MetricsLog:
    """Writes and shows a line for each chunk of training and each evaluation."""

    def __init__(
        self, directory: RunDirectory, shown: Display, learning_rates: np.ndarray, epochs_per_step: float, start: int
    ) -> None:
        """Starts a log, dropping the lines of later steps that an earlier session wrote.

        Args:
          directory: of the run.
          shown: takes each line, too.
          learning_rates: f32[total_steps] of each step.
          epochs_per_step: share of the training images in one batch.
          start: steps already taken.
        """
        records = directory.forget_after(start)
        self._directory = directory
        self._shown = shown
        self._learning_rates = learning_rates
        self._epochs_per_step = epochs_per_step
        self._running: tuple[int, int, metrics.Metrics] | None = None
        self._clock = time.perf_counter()
        self._elapsed = records[-1]["elapsed_seconds"] if records else 0.0

    def dispatched(self, start: int, end: int, rows: metrics.Metrics) -> None:
        """Takes in a chunk that has been started, once the one before it has ended and been logged.

        Args:
          start: its first step.
          end: one past its last step.
          rows: its metrics, each leaf with a leading axis of at least `end - start` steps.

        Raises:
          DivergenceError: a loss of the chunk before is not finite.
        """
        self.flush()
        self._running = (start, end, rows)

    def flush(self) -> None:
        """Waits for the chunk that is running, if any, and logs it.

        Raises:
          DivergenceError: one of its losses is not finite.
        """
        if self._running is None:
            return
        start, end, rows = self._running
        self._running = None
        while not all(leaf.is_ready() for leaf in jax.tree.leaves(rows)):
            time.sleep(_POLL)
        rows = jax.device_get(rows)
        losses = rows.loss_sum[: end - start]
        if not np.isfinite(losses).all():
            step = start + int(np.flatnonzero(~np.isfinite(losses))[0])
            raise DivergenceError(
                f"the training loss is not finite at step {step}, where the learning rate is "
                f"{self._learning_rates[step]:.3g}: lower --optim.peak-lr or set --optim.clip-norm; "
                f"earlier checkpoints are whole"
            )
        result = metrics.summarize(metrics.Metrics(losses.sum(), rows.confusion.sum(0)))
        self._write(
            end,
            train_loss=result.loss,
            train_accuracy=result.accuracy,
            learning_rate=float(self._learning_rates[end - 1]),
            images_per_second=result.examples / self._lap(),
        )

    def evaluated(self, step: int, result: metrics.Summary) -> None:
        """Logs an evaluation on the validation images."""
        self._lap()
        self._write(step, val_loss=result.loss, val_accuracy=result.accuracy)

    def _lap(self) -> float:
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        self._elapsed += seconds
        return seconds

    def _write(self, step: int, **values: float) -> None:
        record: dict[str, Any] = {
            "step": step,
            "epoch": round(step * self._epochs_per_step, 4),
            **values,
            "elapsed_seconds": round(self._elapsed, 3),
        }
        self._directory.append(record)
        self._shown.update(record)
