"""One process per directory, however the previous one ended."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import portalocker
import pytest

from fmnist_jax.errors import FmnistError, RunInUseError
from fmnist_jax.system.lock import exclusive, wait_exclusive


def test_second_holder_is_refused_with_the_process_id_of_the_first(tmp_path: Path) -> None:
    in_use = pytest.raises(RunInUseError, match=f"in use by process {os.getpid()} on ")
    with exclusive(tmp_path), in_use, exclusive(tmp_path):
        pass


def test_lock_is_released_after_an_exception_in_its_block(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), exclusive(tmp_path):
        raise RuntimeError
    with exclusive(tmp_path):
        pass


def test_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
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


def test_wait_exclusive_waits_until_the_holder_has_finished_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import sys; from pathlib import Path; from fmnist_jax.system.lock import wait_exclusive\n"
        "with wait_exclusive(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    (Path(sys.argv[1]) / 'done').touch()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], **pipes) as holder:  # type: ignore[call-overload]
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunInUseError), exclusive(tmp_path):
            pass
        said: list[str] = []

        def release(text: str) -> None:
            said.append(text)
            holder.stdin.write("\n")
            holder.stdin.flush()

        monkeypatch.setattr("fmnist_jax.system.output.say", release)
        with wait_exclusive(tmp_path):
            assert (tmp_path / "done").exists()
        assert said == [f"waiting for another process that prepares data in {tmp_path}"]
    with wait_exclusive(tmp_path):
        assert len(said) == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO])
def test_file_system_without_locks_is_used_with_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(portalocker.portalocker, "LOCKER", fail)
    for acquire in (exclusive, wait_exclusive):
        with acquire(tmp_path):
            pass
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"warning: the file system of {tmp_path} has no locks (")
        assert os.strerror(number) in line
        assert line.endswith("make sure that no other process writes there")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, r"df -i\) there"),
        (errno.EACCES, "give yourself permission"),
        (errno.EROFS, "mount it for writing"),
    ],
)
def test_lock_file_that_cannot_be_opened_raises_an_error_with_advice(
    number: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", fail)
    for acquire, flag in ((exclusive, "--run.dir"), (wait_exclusive, "--data.dir")):
        with (
            pytest.raises(FmnistError, match=f"{os.strerror(number)}.*{advice} or choose another {flag}"),
            acquire(tmp_path),
        ):
            pass


def test_another_users_readable_lock_file_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".lock").write_text("process 1 on elsewhere")
    open_file = Path.open

    def open_read_only(path: Path, mode: str) -> Any:
        if mode != "r":
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_file(path, mode)

    monkeypatch.setattr(Path, "open", open_read_only)
    with (
        exclusive(tmp_path),
        pytest.raises(RunInUseError, match="in use by process 1 on elsewhere"),
        exclusive(tmp_path),
    ):
        pass
    monkeypatch.undo()
    assert (tmp_path / ".lock").read_text() == "process 1 on elsewhere"
