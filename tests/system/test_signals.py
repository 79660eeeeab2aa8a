"""A command that a signal ends: what it had begun is taken back, and it ends as by the signal."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import fmnist_jax
from fmnist_jax.system import signals
from fmnist_jax.system.signals import unwind_on_signal

_BEGIN = """
import os, signal, time
from pathlib import Path
from fmnist_jax.system import signals, storage
signal.signal(signal.SIGINT, signal.default_int_handler)  # as in the foreground, which these tests may not be in
signals.install_exit_handlers()
"""


def ended(script: str, folder: Path) -> tuple[int, str, str]:
    """The exit code of a command that signals itself, in a folder, and what it has printed."""
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1])}
    command = [sys.executable, "-c", _BEGIN + script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_signal_cuts_short_leaves_nothing_and_says_nothing(tmp_path: Path, number: signal.Signals) -> None:
    script = f"""
with storage.atomic_directory(Path("out")) as unfinished:
    (unfinished / "file").touch()
    def write(file):
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), {int(number)})
        time.sleep(9)
    storage.write_atomically(unfinished / "other", write)
"""
    assert ended(script, tmp_path) == (-number, "", "")
    assert list(tmp_path.iterdir()) == []


def test_it_ends_whatever_comes_of_taking_back(tmp_path: Path) -> None:
    script = """
try:
    with signals.unwind_on_signal(), signals.unwind_on_signal():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(9)
        except KeyboardInterrupt:
            print("taken back", flush=True)
            raise OSError("no space")
except OSError:
    print("never", flush=True)
"""
    assert ended(script, tmp_path) == (-signal.SIGINT, "taken back\n", "")


def test_a_second_signal_waits_for_nothing(tmp_path: Path) -> None:
    script = """
with signals.unwind_on_signal():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(9)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        print("never", flush=True)
"""
    assert ended(script, tmp_path) == (-signal.SIGINT, "", "")


def test_the_first_process_of_a_container_takes_back_and_ends_as_well(tmp_path: Path) -> None:
    script = """
os.getpid, pid = lambda: 1, os.getpid()
signals.install_exit_handlers()
try:
    with signals.unwind_on_signal():
        try:
            os.kill(pid, signal.SIGTERM)
            time.sleep(9)
        finally:
            print("taken back", flush=True)
finally:
    print("never", flush=True)
"""
    assert ended(script, tmp_path) == (128 + signal.SIGTERM, "taken back\n", "")


def test_handlers_that_somebody_has_set_stay_and_those_before_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    own, default = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert own is not signal.SIG_DFL  # a notebook's Ctrl-C, as Python has it
    for of_a_command in (False, True):
        monkeypatch.setattr(signals._process, "of_a_command", of_a_command)
        with unwind_on_signal(), unwind_on_signal():
            assert signal.getsignal(signal.SIGINT) is own
            assert (signal.getsignal(signal.SIGTERM) is default) is not of_a_command
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == (own, default)


def test_a_thread_of_a_command_changes_no_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals._process, "of_a_command", True)
    found: list[object] = []

    def look() -> None:
        with unwind_on_signal():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_an_interrupt_that_is_to_be_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: dict[int, Any] = {}
    monkeypatch.setattr(signals._process, "of_a_command", False)
    monkeypatch.setattr(signal, "signal", lambda number, handler: set_to.update({number: handler}))
    for before, after in ((signal.SIG_IGN, {}), (signal.default_int_handler, {signal.SIGINT: signal.SIG_DFL})):
        set_to.clear()
        monkeypatch.setattr(signal, "getsignal", lambda _, before=before: before)
        signals.install_exit_handlers()
        assert set_to == after
