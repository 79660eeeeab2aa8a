"""Metrics lines out of the numbers of a run, in the file and on the screen."""

import time
from typing import Any

import jax
import numpy as np

from fmnist_jax import metrics
from fmnist_jax.config import Config
from fmnist_jax.display import Display
from fmnist_jax.errors import DivergenceError
from fmnist_jax.optim import make_schedule
from fmnist_jax.runlog import RunDirectory

_POLL = 0.001  # seconds between looks at a running chunk, in which Python can take in a signal


class MetricsLog:
    """Writes and shows a line for each chunk of training and each evaluation."""

    def __init__(self, config: Config, directory: RunDirectory, shown: Display, start: int) -> None:
        """Starts after so many steps, dropping the lines of later ones that an earlier session wrote."""
        records = directory.forget_after(start)
        self._config = config
        self._directory = directory
        self._shown = shown
        # All of them now, because a computation in the loop would wait for the chunk that is running.
        schedule = make_schedule(config.optim, config.total_steps)
        with jax.transfer_guard("allow"):
            self._learning_rates = np.asarray(jax.vmap(schedule)(np.arange(config.total_steps)))
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
                f"the training loss is not finite at step {step}: lower --optim.peak-lr (it is "
                f"{self._config.optim.peak_lr}) or set --optim.clip-norm; earlier checkpoints are whole"
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
        epoch = step * self._config.train.batch_size / self._config.data.train_size
        record: dict[str, Any] = {
            "step": step,
            "epoch": round(epoch, 4),
            **values,
            "elapsed_seconds": round(self._elapsed, 3),
        }
        self._directory.append(record)
        self._shown.update(record)
