"""Metrics lines: sums over the chunk's own steps, resumed clocks, and non-finite losses."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.errors import DivergenceError
from fmnist_jax.functional.metrics import Metrics, Summary
from fmnist_jax.runs import metrics_log
from fmnist_jax.runs.directory import RunDirectory
from fmnist_jax.runs.metrics_log import MetricsLog

_LEARNING_RATES = np.linspace(0.1, 0.59, 50)  # one per step of five epochs


class _RecordingDisplay:
    def __init__(self) -> None:
        self.records: list[Mapping[str, Any]] = []

    def update(self, record: Mapping[str, Any]) -> None:
        self.records.append(record)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    return directory


def _rows(losses: list[float]) -> Metrics:
    """Metrics of four examples per step, three of them correct, in a buffer longer than needed."""
    confusion = np.zeros((len(losses) + 2, 10, 10), np.int32)
    confusion[: len(losses), 0, 0], confusion[: len(losses), 0, 1] = 3, 1
    return Metrics(jnp.asarray([*losses, 0.0, 0.0]), jnp.asarray(confusion))


def test_chunk_is_summarized_in_a_line_once_the_next_one_is_added(directory: RunDirectory) -> None:
    display = _RecordingDisplay()
    log = MetricsLog(directory, display, _LEARNING_RATES, 0.1, 0)
    log.add_chunk(0, 3, _rows([8.0, 4.0, 6.0]), time.perf_counter())
    assert display.records == []
    log.add_chunk(3, 4, _rows([2.0]), time.perf_counter())
    log.flush()
    log.flush()
    first, second = display.records
    assert first["step"] == 3
    assert first["train_loss"] == pytest.approx(18 / 12)
    assert first["train_accuracy"] == pytest.approx(0.75)
    assert first["epoch"] == pytest.approx(0.3)
    assert first["learning_rate"] == pytest.approx(0.12)
    assert second["train_loss"] == pytest.approx(0.5)
    assert directory.records() == display.records


class _Clock:
    """In place of the module `time`."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(metrics_log, "time", clock)
    return clock


class _PendingArray:
    """An array on a device that is busy until `ready` is set."""

    def __init__(self, values: Any, ready: threading.Event) -> None:
        self._values, self._ready = values, ready

    def block_until_ready(self) -> None:
        assert self._ready.wait(60.0)

    def __array__(self, *_: Any) -> np.ndarray:
        self.block_until_ready()
        return np.asarray(self._values)


def _pending_rows(losses: list[float], ready: threading.Event) -> Any:
    return jax.tree.map(lambda leaf: _PendingArray(leaf, ready), _rows(losses))


def _finish(log: MetricsLog, ready: threading.Event) -> None:
    """Lets the running chunk end now."""
    ready.set()
    assert log._pending_chunk is not None
    log._pending_chunk.timer.join()


def test_chunk_is_timed_to_its_own_end_even_if_the_next_call_is_slow(directory: RunDirectory, clock: _Clock) -> None:
    log, ready = MetricsLog(directory, _RecordingDisplay(), _LEARNING_RATES, 0.1, 0), threading.Event()
    log.add_chunk(0, 3, _pending_rows([1.0, 1.0, 1.0], ready), 0.0)
    clock.now = 0.2
    _finish(log, ready)
    clock.now = 1.0  # the call that has started the next chunk at 0 returns when it is done
    log.add_chunk(3, 4, _rows([1.0]), 0.0)
    log.flush()
    assert [line["images_per_second"] for line in directory.records()] == pytest.approx([12 / 0.2, 4 / 0.8])
    assert [line["elapsed_seconds"] for line in directory.records()] == pytest.approx([0.2, 1.0])


class _FailingArray(_PendingArray):
    def block_until_ready(self) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: the device is gone")


def test_device_error_of_a_chunk_is_raised_by_flush(directory: RunDirectory) -> None:
    log = MetricsLog(directory, _RecordingDisplay(), _LEARNING_RATES, 0.1, 0)
    rows = jax.tree.map(lambda leaf: _FailingArray(leaf, threading.Event()), _rows([1.0]))
    log.add_chunk(0, 1, rows, time.perf_counter())
    with pytest.raises(jax.errors.JaxRuntimeError, match="the device is gone"):
        log.flush()
    assert directory.records() == []


_EXIT_DURING_CHUNK = """
import sys, time
import jax, numpy as np
from fmnist_jax.functional.metrics import Metrics
from fmnist_jax.runs.metrics_log import MetricsLog
slow = jax.jit(lambda x: jax.lax.fori_loop(0, 60, lambda _, y: jax.numpy.tanh(y @ x), x).sum())
x = np.ones((512, 512), np.float32)
slow(x).block_until_ready()
log = MetricsLog(None, None, np.ones(9), 0.1, 0)
log.add_chunk(0, 1, Metrics(slow(x), slow(x)), time.perf_counter())
sys.exit(7)
"""


def test_process_exiting_during_a_chunk_keeps_its_exit_code_and_prints_nothing() -> None:
    completed = subprocess.run([sys.executable, "-c", _EXIT_DURING_CHUNK], capture_output=True, text=True, check=False)
    assert (completed.returncode, completed.stderr) == (7, "")


def test_time_between_chunks_counts_as_elapsed_but_not_in_the_rate(directory: RunDirectory, clock: _Clock) -> None:
    log, ready = MetricsLog(directory, _RecordingDisplay(), _LEARNING_RATES, 0.1, 0), threading.Event()
    clock.now = 0.8
    log.add_chunk(0, 3, _pending_rows([1.0, 1.0, 1.0], ready), 0.8)
    clock.now = 1.0
    _finish(log, ready)
    log.flush()
    (line,) = directory.records()
    assert line["images_per_second"] == pytest.approx(12 / 0.2)
    assert line["elapsed_seconds"] == pytest.approx(1.0)


def test_evaluation_is_logged_as_a_separate_record(directory: RunDirectory) -> None:
    display = _RecordingDisplay()
    MetricsLog(directory, display, _LEARNING_RATES, 0.1, 0).log_evaluation(10, [Summary(0.5, 0.8, 100)])
    assert display.records[0].items() >= {"step": 10, "epoch": 1.0, "val_loss": 0.5, "val_accuracy": 0.8}.items()


def test_resumed_log_drops_later_lines_and_continues_the_clock(directory: RunDirectory) -> None:
    for step, elapsed in ((5, 10.0), (10, 20.0), (15, 30.0)):
        directory.append({"step": step, "elapsed_seconds": elapsed})
    log = MetricsLog(directory, _RecordingDisplay(), _LEARNING_RATES, 0.1, 10)
    assert [record["step"] for record in directory.records()] == [5, 10]
    log.add_chunk(10, 11, _rows([1.0]), time.perf_counter())
    log.flush()
    assert 20.0 <= directory.records()[-1]["elapsed_seconds"] < 30.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_divergence_error_names_first_nonfinite_step_and_its_learning_rate(directory: RunDirectory, bad: float) -> None:
    log = MetricsLog(directory, _RecordingDisplay(), _LEARNING_RATES, 0.1, 20)
    log.add_chunk(20, 24, _rows([1.0, 2.0, bad, bad]), time.perf_counter())
    with pytest.raises(DivergenceError, match=r"not finite at step 22, where the learning rate is 0\.32: lower"):
        log.flush()
    assert directory.records() == []


def test_nan_in_the_buffer_beyond_the_chunk_is_ignored(directory: RunDirectory) -> None:
    rows = _rows([1.0])
    log = MetricsLog(directory, _RecordingDisplay(), _LEARNING_RATES, 0.1, 0)
    log.add_chunk(0, 1, rows._replace(loss_sum=jnp.asarray(rows.loss_sum).at[2].set(jnp.nan)), time.perf_counter())
    log.flush()
    assert directory.records()[0]["train_loss"] == pytest.approx(0.25)


def test_population_lines_have_the_mean_and_the_values_of_each_member(directory: RunDirectory) -> None:
    first, second = _rows([1.0, 2.0]), _rows([3.0, 4.0])
    log = MetricsLog(directory, _RecordingDisplay(), _LEARNING_RATES, 0.1, 0)
    log.add_chunk(0, 2, jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second), time.perf_counter())
    log.flush()
    log.log_evaluation(2, [Summary(0.5, 0.8, 100), Summary(0.7, 0.9, 100)])
    trained, validated = directory.records()
    assert trained["train_loss"] == pytest.approx(np.mean(trained["members"]["train_loss"]))
    assert trained["members"]["train_loss"] == pytest.approx([3 / 8, 7 / 8])
    assert validated["members"] == {"val_loss": [0.5, 0.7], "val_accuracy": [0.8, 0.9]}
    assert validated["val_accuracy"] == pytest.approx(0.85)


def test_divergence_of_one_population_member_is_detected(directory: RunDirectory) -> None:
    log = MetricsLog(directory, _RecordingDisplay(), _LEARNING_RATES, 0.1, 20)
    log.add_chunk(
        20,
        22,
        jax.tree.map(lambda *leaves: jnp.stack(leaves), _rows([1.0, 1.0]), _rows([1.0, float("nan")])),
        time.perf_counter(),
    )
    with pytest.raises(DivergenceError, match="not finite at step 21"):
        log.flush()


def test_process_without_a_run_directory_still_detects_divergence() -> None:
    log = MetricsLog(None, _RecordingDisplay(), _LEARNING_RATES, 0.1, 0)
    log.add_chunk(0, 1, _rows([float("inf")]), time.perf_counter())
    with pytest.raises(DivergenceError):
        log.flush()
