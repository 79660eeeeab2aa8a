"""Two real processes over loopback: a run of both, and what becomes of one when the other ends."""

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
from tests.undrawn import IN_RESULTS

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

    def __init__(self, directory: Path, *arguments: str, of_second: Sequence[str] = ()) -> None:
        command = [
            *(sys.executable, "-m", "fmnist_jax.train", *ARGUMENTS, *arguments, "--run.dir", str(directory)),
            *("--parallel.distributed", "--parallel.coordinator", f"127.0.0.1:{_free_port()}"),
            *("--parallel.processes", "2", "--parallel.heartbeat", str(HEARTBEAT)),
        ]
        self.directory = directory
        self.both = [
            subprocess.Popen(
                [*command, "--parallel.process-id", str(number), *own],
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for number, own in enumerate(((), of_second))
        ]

    def train_until(self, step: int) -> None:
        """Waits until a step has been logged."""
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            metrics = self.directory / "metrics.jsonl"
            lines = metrics.read_text().splitlines() if metrics.exists() else []
            if lines and json.loads(lines[-1])["step"] >= step:
                return
            assert all(process.poll() is None for process in self.both), self.ended(0)
            time.sleep(0.1)
        raise AssertionError(f"no step {step} within 180 s")

    def ended(self, number: int, timeout: float = 180) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of one of them."""
        out, err = self.both[number].communicate(timeout=timeout)
        return self.both[number].returncode, out, err

    def kill(self) -> None:
        for process in self.both:
            process.kill()
            process.communicate()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def long_runs() -> Iterator[list[Pair]]:
    """Pairs that have been started for the tests of this file."""
    pairs: list[Pair] = []
    yield pairs
    for pair in pairs:
        pair.kill()


@pytest.fixture
def long_run(tmp_path: Path, long_runs: list[Pair]) -> Pair:
    """A pair that trains: that of the test before where it has left both alone, for starting one takes long."""
    if not long_runs or any(process.poll() is not None for process in long_runs[-1].both):
        long_runs.append(Pair(tmp_path / "run", *LONG))
        long_runs[-1].train_until(9)
    return long_runs[-1]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary of the same run by one process with two devices."""
    with patch.multiple(results, **IN_RESULTS):
        return loop.run(replace(CONFIG, run=replace(CONFIG.run, dir=tmp_path_factory.mktemp("runs") / "alone")))


def test_two_processes_train_what_one_with_two_devices_does(tmp_path: Path, alone: dict[str, Any]) -> None:
    pair = Pair(tmp_path / "run", *SHORT)
    first, second = pair.ended(0), pair.ended(1)
    assert (first[0], second[0]) == (0, 0), (first[2], second[2])
    assert second[1] == second[2] == ""  # the first one alone prints
    assert first[2] == ""
    assert "on 2 of 2 cpu devices in 2 processes" in first[1]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    same = ("test_examples", "steps", "parameters", "dataset_digest")
    assert {name: summary[name] for name in same} == {name: alone[name] for name in same}
    # With jax 0.10.2 they are the same bits; 0.12 adds up in another order between processes than within one.
    assert summary["test_loss"] == pytest.approx(alone["test_loss"], rel=1e-3)
    assert summary["processes"] == 2
    assert summary["devices"] == ["cpu", "cpu"]
    sessions = (tmp_path / "run" / "sessions.jsonl").read_text().splitlines()
    assert len(sessions) == 1  # the first one alone writes


def test_what_the_first_process_refuses_all_refuse(long_run: Pair) -> None:
    """A second pair in the same directory: its first process finds the lock."""
    others = Pair(long_run.directory, *LONG)
    (code, _, error), (other_code, _, other_error) = others.ended(0), others.ended(1)
    assert (code, other_code) == (2, 2)
    assert error.startswith(f"error: {long_run.directory} is in use by process {long_run.both[0].pid} on ")
    assert other_error == error.replace("error: ", "error: process 0: ")


def test_a_stopped_run_goes_on_with_two_processes_and_with_one_to_where_it_would_have_come(
    tmp_path: Path, alone: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    # As from a machine without the run's config.json, whose flags would make another program of another length.
    otherwise = ("--train.seed", "7", "--run.log-every", "2", "--train.epochs", "9")
    for signalled, saves in ((1, 1), (0, 3)):
        pair = Pair(run, *SHORT, of_second=otherwise)
        while pair.both[1].poll() is None and len(_saved(run)) < saves:
            time.sleep(0.01)
        pair.both[signalled].send_signal(signal.SIGTERM)
        (code, said, error), (other_code, _, other_error) = pair.ended(0), pair.ended(1)
        assert code == other_code == 143, error
        assert other_error.startswith("note: process 1 has different values of train.epochs, train.seed from the ")
        stopped = f"stopped: SIGTERM at step {checkpoint.steps(run / 'checkpoints')[-1]} of 30; its state is saved; "
        assert error.startswith(stopped)
        assert other_error.splitlines()[-1].startswith(stopped)
    assert "resuming from step" in said
    summary = loop.run(replace(CONFIG, run=replace(CONFIG.run, dir=run)))
    assert summary["steps"] == alone["steps"]
    assert summary["test_loss"] == pytest.approx(alone["test_loss"], rel=1e-3)


def _saved(run: Path) -> list[int]:
    """The steps that have been saved, those included whose checkpoints are no longer kept."""
    lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
    return sorted({json.loads(line)["step"] for line in lines if "val_loss" in line})


@pytest.mark.parametrize(
    ("number", "how", "seconds"), [(0, signal.SIGKILL, HEARTBEAT), (1, signal.SIGSTOP, 2 * HEARTBEAT + 5)]
)
def test_when_one_is_gone_or_stands_still_the_other_ends_with_one_line(
    long_run: Pair, number: int, how: signal.Signals, seconds: float
) -> None:
    long_run.both[number].send_signal(how)
    start = time.monotonic()
    code, _, error = long_run.ended(1 - number, timeout=60)
    assert code == 2
    assert time.monotonic() - start < seconds
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    assert "start all processes again" in error
    assert checkpoint.steps(long_run.directory / "checkpoints")


@pytest.mark.parametrize("kind", XLA_ERRORS)
def test_a_collective_that_fails_says_that_another_process_has_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: type[Exception]
) -> None:
    """The heartbeat has not named it by then."""
    error = kind("UNKNOWN: Gloo all-reduce failed: [pair.cc:547]\nConnection closed by peer [127.0.0.1]:41159")
    code, said = _leaving(error, monkeypatch, capsys)
    assert code == 2
    assert said == (
        "error: another process has gone (UNKNOWN: Gloo all-reduce failed: [pair.cc:547] Connection closed by peer "
        "[127.0.0.1]:41159): start all processes again with the same --run.dir to resume\n"
    )


def test_what_nobody_foresaw_leaves_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = _leaving(ValueError("UNKNOWN value 3"), monkeypatch, capsys)
    assert code == 1
    assert said.startswith("Traceback (most recent call last):\n")
    assert said.endswith("\nValueError: UNKNOWN value 3\nerror: ValueError: UNKNOWN value 3\n")


def _leaving(error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code of one of two processes that meets an error, and what it says."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "_watch_others", lambda _: Heartbeat(HEARTBEAT, print))
    monkeypatch.setattr(processes, "_exit_lock", threading.Lock())
    monkeypatch.setattr(processes, "_PEER_ERROR_DELAY", 0)
    monkeypatch.setattr(processes, "_EXIT_DELAY", 0)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as left, processes.fail_together(ParallelConfig()):
        raise error
    return int(str(left.value)), capsys.readouterr().err


def test_images_that_differ_between_processes_are_refused(tmp_path: Path) -> None:
    files, rng = [tmp_path / "first.npz", tmp_path / "second.npz"], np.random.default_rng(0)
    for file in files:
        images, labels = rng.integers(0, 256, (2, 200, 28, 28), np.uint8), np.arange(200) % 10
        np.savez(file, train_images=images[0], train_labels=labels, test_images=images[1], test_labels=labels)
    of_second = ("--data.file", str(files[1]))
    pair = Pair(tmp_path / "run", *SHORT, "--data.name", "npz", "--data.file", str(files[0]), of_second=of_second)
    for number in (0, 1):
        code, _, error = pair.ended(number)
        assert code == 2
        assert error.startswith("error: the processes have different images (process 0 ")
        assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_process_whose_peers_do_not_come_ends_with_one_line(tmp_path: Path) -> None:
    """The first of two, and the second of two others, which wait at the same time."""
    waiting = [_alone_of_two(number, tmp_path / str(number)) for number in (0, 1)]
    for number, process in enumerate(waiting):
        _, error = process.communicate(timeout=60)
        assert process.returncode == 2
        within = f"within {HEARTBEAT} s, according to JAX ("
        assert error.startswith(f"error: the processes of the run did not all start {within}")
        assert error.count("\n") == 1
        assert not (tmp_path / str(number)).exists()


def _alone_of_two(number: int, run: Path) -> subprocess.Popen[str]:
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


def test_one_process_alone_decides_for_itself() -> None:
    assert allgather_json({"a": 1}) == [{"a": 1}]
    assert run_on_first(lambda: 3) == run_on_all(lambda: 3) == 3
