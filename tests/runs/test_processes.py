"""Two real processes over loopback: their joint run, and what one does when the other ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import numpy as np
import pytest

from fmnist_jax.config.schema import Config, DataConfig, ModelConfig, ParallelConfig, RunConfig, TrainConfig
from fmnist_jax.runs import checkpoint, loop, processes, results
from fmnist_jax.runs.processes import allgather_json, run_on_all, run_on_first
from fmnist_jax.system.compilation import XLA_ERRORS
from fmnist_jax.system.heartbeat import Heartbeat
from tests.undrawn import RESULTS_STUBS

pytestmark = pytest.mark.slow

HEARTBEAT = 5  # seconds
CONFIG = Config(
    preset="demo",
    data=DataConfig(name="synthetic", synthetic_train_size=200, synthetic_test_size=70, validation_size=40),
    model=ModelConfig(family="plain", widths=(4, 4), depths=(1, 1), dropout=0.3),
    train=TrainConfig(epochs=6, batch_size=32, eval_batch_size=33),
    run=RunConfig(log_every=3, checkpoint_every=4, progress="plain"),
    parallel=ParallelConfig(devices=2),
)
ARGUMENTS = (
    *("--preset", "demo", "--data.synthetic-train-size", "200", "--data.synthetic-test-size", "70"),
    *("--data.validation-size", "40", "--model.widths", "4", "4", "--model.depths", "1", "1", "--model.dropout", "0.3"),
    *("--optim.weight-decay", "0.005", "--augment.erase-probability", "0.25", "--train.batch-size", "32"),
    *("--train.eval-batch-size", "33", "--run.log-every", "3", "--run.checkpoint-every", "4"),
    *("--run.progress", "plain"),
)
SHORT = ("--train.epochs", "6")
LONG = ("--train.epochs", "2000")


class Pair:
    """Two processes of one run."""

    def __init__(self, directory: Path, *arguments: str, second_arguments: Sequence[str] = ()) -> None:
        command = [
            *(sys.executable, "-m", "fmnist_jax.train", *ARGUMENTS, *arguments, "--run.dir", str(directory)),
            *("--parallel.distributed", "--parallel.coordinator", f"127.0.0.1:{_free_port()}"),
            *("--parallel.processes", "2", "--parallel.heartbeat", str(HEARTBEAT)),
        ]
        self.directory = directory
        self.processes = [
            subprocess.Popen(
                [*command, "--parallel.process-id", str(number), *extra],
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for number, extra in enumerate(((), second_arguments))
        ]

    def wait_for_step(self, step: int) -> None:
        """Waits until a step has been logged."""
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            metrics = self.directory / "metrics.jsonl"
            lines = metrics.read_text().splitlines() if metrics.exists() else []
            if lines and json.loads(lines[-1])["step"] >= step:
                return
            assert all(process.poll() is None for process in self.processes), self.wait(0)
            time.sleep(0.1)
        raise AssertionError(f"no step {step} within 180 s")

    def wait(self, number: int, timeout: float = 180) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of one of them, once it has exited."""
        out, err = self.processes[number].communicate(timeout=timeout)
        return self.processes[number].returncode, out, err

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def long_runs() -> Iterator[list[Pair]]:
    """Pairs started by the tests of this file, killed at its end."""
    pairs: list[Pair] = []
    yield pairs
    for pair in pairs:
        pair.kill()


@pytest.fixture
def long_run(tmp_path: Path, long_runs: list[Pair]) -> Pair:
    """A pair that is training, reused from the previous test if both are still alive, as starting one is slow."""
    if not long_runs or any(process.poll() is not None for process in long_runs[-1].processes):
        long_runs.append(Pair(tmp_path / "run", *LONG))
        long_runs[-1].wait_for_step(9)
    return long_runs[-1]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary of the same run in one process with two devices."""
    with patch.multiple(results, **RESULTS_STUBS):
        return loop.run(replace(CONFIG, run=replace(CONFIG.run, dir=tmp_path_factory.mktemp("runs") / "alone")))


def test_two_processes_match_one_process_with_two_devices(tmp_path: Path, reference: dict[str, Any]) -> None:
    pair = Pair(tmp_path / "run", *SHORT)
    first, second = pair.wait(0), pair.wait(1)
    assert (first[0], second[0]) == (0, 0), (first[2], second[2])
    assert second[1] == second[2] == ""  # the first one alone prints
    assert first[2] == ""
    assert "on 2 of 2 cpu devices in 2 processes" in first[1]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    fields = ("test_examples", "steps", "parameters", "dataset_digest")
    assert {name: summary[name] for name in fields} == {name: reference[name] for name in fields}
    # Bitwise equal with jax 0.10.2; 0.12 sums in another order between processes than within one.
    assert summary["test_loss"] == pytest.approx(reference["test_loss"], rel=1e-3)
    assert summary["processes"] == 2
    assert summary["devices"] == ["cpu", "cpu"]
    sessions = (tmp_path / "run" / "sessions.jsonl").read_text().splitlines()
    assert len(sessions) == 1  # the first one alone writes


def test_refusal_of_the_first_process_ends_all_processes(long_run: Pair) -> None:
    """A second pair in the same directory, whose first process finds it locked."""
    second_pair = Pair(long_run.directory, *LONG)
    (code, _, error), (other_code, _, other_error) = second_pair.wait(0), second_pair.wait(1)
    assert (code, other_code) == (2, 2)
    assert error.startswith(f"error: {long_run.directory} is in use by process {long_run.processes[0].pid} on ")
    assert other_error == error.replace("error: ", "error: process 0: ")


def test_stopped_run_resumes_with_two_processes_and_with_one_to_the_same_result(
    tmp_path: Path, reference: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    # As on a machine without the run's config.json, whose flags describe another program of another length.
    conflicting_flags = ("--train.seed", "7", "--run.log-every", "2", "--train.epochs", "9")
    for signalled, saves in ((1, 1), (0, 3)):
        pair = Pair(run, *SHORT, second_arguments=conflicting_flags)
        while pair.processes[1].poll() is None and len(_saved_steps(run)) < saves:
            time.sleep(0.01)
        pair.processes[signalled].send_signal(signal.SIGTERM)
        (code, stdout, stderr), (other_code, _, other_stderr) = pair.wait(0), pair.wait(1)
        assert code == other_code == 143, stderr
        assert other_stderr.startswith("note: process 1 has different values of train.epochs, train.seed from the ")
        stopped = f"stopped: SIGTERM at step {checkpoint.steps(run / 'checkpoints')[-1]} of 30; its state is saved; "
        assert stderr.startswith(stopped)
        assert other_stderr.splitlines()[-1].startswith(stopped)
    assert "resuming from step" in stdout
    summary = loop.run(replace(CONFIG, run=replace(CONFIG.run, dir=run)))
    assert summary["steps"] == reference["steps"]
    assert summary["test_loss"] == pytest.approx(reference["test_loss"], rel=1e-3)


def _saved_steps(run: Path) -> list[int]:
    """All saved steps, including those whose checkpoints have since been deleted."""
    lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
    return sorted({json.loads(line)["step"] for line in lines if "val_loss" in line})


@pytest.mark.parametrize(
    ("number", "signal_number", "max_seconds"), [(0, signal.SIGKILL, HEARTBEAT), (1, signal.SIGSTOP, 2 * HEARTBEAT + 5)]
)
def test_peer_of_a_killed_or_frozen_process_exits_with_one_line(
    long_run: Pair, number: int, signal_number: signal.Signals, max_seconds: float
) -> None:
    long_run.processes[number].send_signal(signal_number)
    start = time.monotonic()
    code, _, error = long_run.wait(1 - number, timeout=60)
    assert code == 2
    assert time.monotonic() - start < max_seconds
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    assert "start all processes again" in error
    assert checkpoint.steps(long_run.directory / "checkpoints")


@pytest.mark.parametrize("error_type", XLA_ERRORS)
def test_failed_collective_reports_that_another_process_has_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error_type: type[Exception]
) -> None:
    """Where the heartbeat has not reported it first."""
    error = error_type("UNKNOWN: Gloo all-reduce failed: [pair.cc:547]\nConnection closed by peer [127.0.0.1]:41159")
    code, stderr = _fail_in_one_of_two(error, monkeypatch, capsys)
    assert code == 2
    assert stderr == (
        "error: another process has gone (UNKNOWN: Gloo all-reduce failed: [pair.cc:547] Connection closed by peer "
        "[127.0.0.1]:41159): start all processes again with the same --run.dir to resume\n"
    )


def test_unexpected_error_exits_with_code_1_and_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, stderr = _fail_in_one_of_two(ValueError("UNKNOWN value 3"), monkeypatch, capsys)
    assert code == 1
    assert stderr.startswith("Traceback (most recent call last):\n")
    assert stderr.endswith("\nValueError: UNKNOWN value 3\nerror: ValueError: UNKNOWN value 3\n")


def _fail_in_one_of_two(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """The exit code and standard error of one of two processes in which an error is raised."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "_watch_others", lambda _: Heartbeat(HEARTBEAT, print))
    monkeypatch.setattr(processes, "_exit_lock", threading.Lock())
    monkeypatch.setattr(processes, "_PEER_ERROR_DELAY", 0)
    monkeypatch.setattr(processes, "_EXIT_DELAY", 0)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as exit_info, processes.fail_together(ParallelConfig()):
        raise error
    return int(str(exit_info.value)), capsys.readouterr().err


def test_different_images_in_two_processes_are_refused(tmp_path: Path) -> None:
    files, rng = [tmp_path / "first.npz", tmp_path / "second.npz"], np.random.default_rng(0)
    for file in files:
        images, labels = rng.integers(0, 256, (2, 200, 28, 28), np.uint8), np.arange(200) % 10
        np.savez(file, train_images=images[0], train_labels=labels, test_images=images[1], test_labels=labels)
    second_arguments = ("--data.file", str(files[1]))
    pair = Pair(
        tmp_path / "run", *SHORT, "--data.name", "npz", "--data.file", str(files[0]), second_arguments=second_arguments
    )
    for number in (0, 1):
        code, _, error = pair.wait(number)
        assert code == 2
        assert error.startswith("error: the processes have different images (process 0 ")
        assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_process_without_its_peer_times_out_with_one_line(tmp_path: Path) -> None:
    """The first of one pair and the second of another, both waiting at the same time."""
    waiting = [_start_without_peer(number, tmp_path / str(number)) for number in (0, 1)]
    for number, process in enumerate(waiting):
        _, error = process.communicate(timeout=60)
        assert process.returncode == 2
        time_limit = f"within {HEARTBEAT} s, according to JAX ("
        assert error.startswith(f"error: the processes of the run did not all start {time_limit}")
        assert error.count("\n") == 1
        assert not (tmp_path / str(number)).exists()


def _start_without_peer(number: int, run: Path) -> subprocess.Popen[str]:
    arguments = [
        *("--preset", "demo", "--run.dir", str(run), "--parallel.distributed", "--parallel.processes", "2"),
        *("--parallel.coordinator", f"127.0.0.1:{_free_port()}", "--parallel.process-id", str(number)),
        *("--parallel.heartbeat", str(HEARTBEAT)),
    ]
    # Within one heartbeat instead of ten.
    code = (
        "from fmnist_jax import train; from fmnist_jax.runs import processes; "
        f"processes._STARTUP_TIMEOUT_FACTOR = 1; train.main({arguments})"
    )
    return subprocess.Popen([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_collective_helpers_return_local_values_in_a_single_process() -> None:
    assert allgather_json({"a": 1}) == [{"a": 1}]
    assert run_on_first(lambda: 3) == run_on_all(lambda: 3) == 3
