"""One process to a directory, whatever became of the one before."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fmnist_jax.errors import RunInUseError
from fmnist_jax.system.lock import exclusive, in_turn


def test_a_second_holder_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    in_use = pytest.raises(RunInUseError, match=f"in use by process {os.getpid()} on ")
    with exclusive(tmp_path), in_use, exclusive(tmp_path):
        pass


def test_the_lock_is_free_after_its_block_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), exclusive(tmp_path):
        raise RuntimeError
    with exclusive(tmp_path):
        pass


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from fmnist_jax.system.lock import exclusive\n"
        "with exclusive(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunInUseError, match=f"process {holder.pid} "), exclusive(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with exclusive(tmp_path):
        pass


def test_a_turn_comes_when_the_holder_before_has_ended(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from fmnist_jax.system.lock import in_turn\n"
        "with in_turn(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    (Path(sys.argv[1]) / 'done').touch()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], **pipes) as holder:  # type: ignore[call-overload]
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunInUseError), exclusive(tmp_path):
            pass
        threading.Timer(0.3, lambda: (holder.stdin.write("\n"), holder.stdin.flush())).start()
        with in_turn(tmp_path):
            assert (tmp_path / "done").exists()
