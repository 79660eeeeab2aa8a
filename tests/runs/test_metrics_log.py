"""Metrics lines: sums over the chunk's own steps, resumed clocks, and losses that are not finite."""

import subprocess
import sys
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
from fmnist_jax.runs.directory import RunDirectory
from fmnist_jax.runs.metrics_log import MetricsLog

_RATES = np.linspace(0.1, 0.59, 50)  # of the steps of five epochs


class _Shown:
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
    """Four examples a step, three of them right, in a buffer with room to spare."""
    confusion = np.zeros((len(losses) + 2, 10, 10), np.int32)
    confusion[: len(losses), 0, 0], confusion[: len(losses), 0, 1] = 3, 1
    return Metrics(jnp.asarray([*losses, 0.0, 0.0]), jnp.asarray(confusion))


def test_a_line_sums_up_its_chunk_once_the_next_one_is_running(directory: RunDirectory) -> None:
    shown = _Shown()
    log = MetricsLog(directory, shown, _RATES, 0.1, 0)
    log.add_chunk(0, 3, _rows([8.0, 4.0, 6.0]), time.perf_counter())
    assert shown.records == []
    log.add_chunk(3, 4, _rows([2.0]), time.perf_counter())
    log.flush()
    log.flush()
    first, second = shown.records
    assert first["step"] == 3
    assert first["train_loss"] == pytest.approx(18 / 12)
    assert first["train_accuracy"] == pytest.approx(0.75)
    assert first["epoch"] == pytest.approx(0.3)
    assert first["learning_rate"] == pytest.approx(0.12)
    assert second["train_loss"] == pytest.approx(0.5)
    assert directory.records() == shown.records


class _Late:
    """An array on a device that is busy for so many seconds from now."""

    def __init__(self, values: Any, seconds: float) -> None:
        self._values, self._ready = values, time.perf_counter() + seconds

    def block_until_ready(self) -> None:
        time.sleep(max(0.0, self._ready - time.perf_counter()))

    def __array__(self, *_: Any) -> np.ndarray:
        self.block_until_ready()
        return np.asarray(self._values)


def _late(losses: list[float], seconds: float) -> Any:
    return jax.tree.map(lambda leaf: _Late(leaf, seconds), _rows(losses))


def test_a_chunk_is_timed_to_its_own_end_where_the_call_for_the_next_one_takes_long(directory: RunDirectory) -> None:
    log, began = MetricsLog(directory, _Shown(), _RATES, 0.1, 0), time.perf_counter()
    log.add_chunk(0, 3, _late([1.0, 1.0, 1.0], 0.2), began)
    began = time.perf_counter()
    time.sleep(0.8)  # a call that comes back when its chunk is almost done
    log.add_chunk(3, 4, _late([1.0], 0.0), began)
    log.flush()
    long, short = directory.records()
    assert 12 / 0.4 < long["images_per_second"] <= 12 / 0.2
    assert 4 / 1.0 < short["images_per_second"] <= 4 / 0.4
    assert long["elapsed_seconds"] < 0.4
    assert short["elapsed_seconds"] >= 0.8


class _Broken(_Late):
    def block_until_ready(self) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: the device is gone")


def test_what_a_device_says_of_a_chunk_is_raised_where_its_numbers_are_read(directory: RunDirectory) -> None:
    log = MetricsLog(directory, _Shown(), _RATES, 0.1, 0)
    log.add_chunk(0, 1, jax.tree.map(lambda leaf: _Broken(leaf, 0.0), _rows([1.0])), time.perf_counter())
    with pytest.raises(jax.errors.JaxRuntimeError, match="the device is gone"):
        log.flush()
    assert directory.records() == []


_LEFT_BEHIND = """
import sys, time
import jax, numpy as np
from fmnist_jax.functional.metrics import Metrics
from fmnist_jax.runs.metrics_log import MetricsLog
slow = jax.jit(lambda x: jax.lax.fori_loop(0, 60, lambda _, y: jax.numpy.tanh(y @ x), x).sum())
x = np.ones((512, 512), np.float32)
slow(x).block_until_ready()
log = MetricsLog(None, None, np.ones(9), 0.1, 0)
log.dispatched(0, 1, Metrics(slow(x), slow(x)), time.perf_counter())
sys.exit(7)
"""


def test_a_process_that_ends_while_a_chunk_runs_ends_as_it_says() -> None:
    ended = subprocess.run([sys.executable, "-c", _LEFT_BEHIND], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (7, "")


def test_what_is_done_between_chunks_takes_time_but_is_no_part_of_their_rate(directory: RunDirectory) -> None:
    log = MetricsLog(directory, _Shown(), _RATES, 0.1, 0)
    time.sleep(0.8)
    log.add_chunk(0, 3, _late([1.0, 1.0, 1.0], 0.2), time.perf_counter())
    log.flush()
    (line,) = directory.records()
    assert 12 / 0.4 < line["images_per_second"] <= 12 / 0.1
    assert line["elapsed_seconds"] >= 1.0


def test_an_evaluation_has_a_line_of_its_own(directory: RunDirectory) -> None:
    shown = _Shown()
    MetricsLog(directory, shown, _RATES, 0.1, 0).log_evaluation(10, [Summary(0.5, 0.8, 100)])
    assert shown.records[0].items() >= {"step": 10, "epoch": 1.0, "val_loss": 0.5, "val_accuracy": 0.8}.items()


def test_a_resumed_log_forgets_later_lines_and_goes_on_with_the_clock(directory: RunDirectory) -> None:
    for step, elapsed in ((5, 10.0), (10, 20.0), (15, 30.0)):
        directory.append({"step": step, "elapsed_seconds": elapsed})
    log = MetricsLog(directory, _Shown(), _RATES, 0.1, 10)
    assert [record["step"] for record in directory.records()] == [5, 10]
    log.add_chunk(10, 11, _rows([1.0]), time.perf_counter())
    log.flush()
    assert 20.0 <= directory.records()[-1]["elapsed_seconds"] < 30.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_first_step_with_a_loss_that_is_not_finite_is_named(directory: RunDirectory, bad: float) -> None:
    log = MetricsLog(directory, _Shown(), _RATES, 0.1, 20)
    log.add_chunk(20, 24, _rows([1.0, 2.0, bad, bad]), time.perf_counter())
    with pytest.raises(DivergenceError, match=r"not finite at step 22, where the learning rate is 0\.32: lower"):
        log.flush()
    assert directory.records() == []


def test_what_lies_past_the_chunk_in_its_buffer_is_not_looked_at(directory: RunDirectory) -> None:
    rows = _rows([1.0])
    log = MetricsLog(directory, _Shown(), _RATES, 0.1, 0)
    log.add_chunk(0, 1, rows._replace(loss_sum=jnp.asarray(rows.loss_sum).at[2].set(jnp.nan)), time.perf_counter())
    log.flush()
    assert directory.records()[0]["train_loss"] == pytest.approx(0.25)


def test_of_a_population_each_line_has_the_mean_and_every_member(directory: RunDirectory) -> None:
    one, two = _rows([1.0, 2.0]), _rows([3.0, 4.0])
    log = MetricsLog(directory, _Shown(), _RATES, 0.1, 0)
    log.add_chunk(0, 2, jax.tree.map(lambda *leaves: jnp.stack(leaves), one, two), time.perf_counter())
    log.flush()
    log.log_evaluation(2, [Summary(0.5, 0.8, 100), Summary(0.7, 0.9, 100)])
    trained, validated = directory.records()
    assert trained["train_loss"] == pytest.approx(np.mean(trained["members"]["train_loss"]))
    assert trained["members"]["train_loss"] == pytest.approx([3 / 8, 7 / 8])
    assert validated["members"] == {"val_loss": [0.5, 0.7], "val_accuracy": [0.8, 0.9]}
    assert validated["val_accuracy"] == pytest.approx(0.85)


def test_of_a_population_a_member_that_diverges_is_noticed(directory: RunDirectory) -> None:
    log = MetricsLog(directory, _Shown(), _RATES, 0.1, 20)
    log.add_chunk(
        20,
        22,
        jax.tree.map(lambda *both: jnp.stack(both), _rows([1.0, 1.0]), _rows([1.0, float("nan")])),
        time.perf_counter(),
    )
    with pytest.raises(DivergenceError, match="not finite at step 21"):
        log.flush()


def test_a_process_that_does_not_write_the_log_still_notices_divergence() -> None:
    log = MetricsLog(None, _Shown(), _RATES, 0.1, 0)
    log.add_chunk(0, 1, _rows([float("inf")]), time.perf_counter())
    with pytest.raises(DivergenceError):
        log.flush()
