"""A process that a signal ends: what it had begun is taken back, and it ends as by the signal."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import fmnist_jax
from fmnist_jax.system.signals import unwinding

_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1])}


def ended(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script that signals itself, in a folder."""
    begin = "import os, signal, sys, time; from pathlib import Path; from fmnist_jax.system import signals, storage\n"
    command = [sys.executable, "-c", begin + script]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=_ENVIRONMENT, check=False)


_AT_ONCE = "for n in (signal.SIGINT, signal.SIGTERM): signal.signal(n, signal.SIG_DFL)\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_signal_cuts_short_leaves_nothing_and_says_nothing(tmp_path: Path, number: signal.Signals) -> None:
    script = f"""
with storage.whole_directory(Path("out")) as unfinished:
    (unfinished / "file").touch()
    def write(file):
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), {int(number)})
        time.sleep(9)
    storage.write_whole(unfinished / "other", write)
"""
    done = ended(_AT_ONCE + script, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")
    assert list(tmp_path.iterdir()) == []


def test_the_first_process_of_a_container_takes_back_and_ends_as_well(tmp_path: Path) -> None:
    script = """
signal.signal(signal.SIGTERM, signals.end_at_once)
try:
    with signals.unwinding():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(9)
        finally:
            print("taken back", flush=True)
finally:
    print("never")
"""
    done = ended(script, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "taken back\n", "")


def test_a_second_signal_waits_for_nothing(tmp_path: Path) -> None:
    script = """
with signals.unwinding():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(9)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        print("never", flush=True)
"""
    done = ended(_AT_ONCE + script, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_handlers_of_others_stay_and_those_before_come_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    assert before[signal.SIGINT] is not signal.SIG_DFL  # a notebook's Ctrl-C, as Python has it
    with unwinding(), unwinding():
        assert signal.getsignal(signal.SIGINT) is before[signal.SIGINT]
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in before} == before
    with pytest.raises(KeyboardInterrupt), unwinding():
        raise KeyboardInterrupt


def test_a_thread_changes_no_handler() -> None:
    found: list[object] = []

    def look() -> None:
        with unwinding():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
