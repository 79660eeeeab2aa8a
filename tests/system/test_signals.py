"""A command that a signal ends: unfinished work is undone, and the exit status is that of the signal."""

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

_PREAMBLE = """
import os, signal, time
from pathlib import Path
from fmnist_jax.system import signals, staging, storage
signal.signal(signal.SIGINT, signal.default_int_handler)  # as in the foreground, which these tests may not be in
signals.install_exit_handlers()
"""


def run_script(script: str, folder: Path) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of a command that signals itself, run in a folder."""
    env = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1])}
    command = [sys.executable, "-c", _PREAMBLE + script]
    completed = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env, check=False)
    return completed.returncode, completed.stdout, completed.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_a_write_leaves_no_files_and_prints_nothing(tmp_path: Path, number: signal.Signals) -> None:
    script = f"""
with staging.atomic_directory(Path("out")) as unfinished:
    (unfinished / "file").touch()
    def write(file):
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), {int(number)})
        time.sleep(9)
    storage.write_atomically(unfinished / "other", write)
"""
    assert run_script(script, tmp_path) == (-number, "", "")
    assert list(tmp_path.iterdir()) == []


def test_process_ends_by_the_signal_even_if_its_cleanup_fails(tmp_path: Path) -> None:
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
    assert run_script(script, tmp_path) == (-signal.SIGINT, "taken back\n", "")


def test_second_signal_ends_the_process_during_its_cleanup(tmp_path: Path) -> None:
    script = """
with signals.unwind_on_signal():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(9)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        print("never", flush=True)
"""
    assert run_script(script, tmp_path) == (-signal.SIGINT, "", "")


def test_first_process_of_a_container_cleans_up_and_exits_with_128_plus_the_signal(tmp_path: Path) -> None:
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
    assert run_script(script, tmp_path) == (128 + signal.SIGTERM, "taken back\n", "")


def test_custom_handlers_stay_and_previous_handlers_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    custom, default = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert custom is not signal.SIG_DFL  # Ctrl-C in a notebook, as Python handles it
    for is_command in (False, True):
        monkeypatch.setattr(signals._process, "of_a_command", is_command)
        with unwind_on_signal(), unwind_on_signal():
            assert signal.getsignal(signal.SIGINT) is custom
            assert (signal.getsignal(signal.SIGTERM) is default) is not is_command
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == (custom, default)


def test_other_thread_of_a_command_changes_no_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals._process, "of_a_command", True)
    observed: list[object] = []

    def observe_handler() -> None:
        with unwind_on_signal():
            observed.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=observe_handler)
    thread.start()
    thread.join()
    assert observed == [signal.getsignal(signal.SIGTERM)]


def test_install_exit_handlers_keeps_an_ignored_interrupt_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: dict[int, Any] = {}
    monkeypatch.setattr(signals._process, "of_a_command", False)
    monkeypatch.setattr(signal, "signal", lambda number, handler: installed.update({number: handler}))
    for previous, expected in ((signal.SIG_IGN, {}), (signal.default_int_handler, {signal.SIGINT: signal.SIG_DFL})):
        installed.clear()
        monkeypatch.setattr(signal, "getsignal", lambda _, previous=previous: previous)
        signals.install_exit_handlers()
        assert installed == expected
