import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import pytest

import fmnist_jax
from fmnist_jax.commands import cli
from fmnist_jax.errors import CheckpointError, ConfigError, DataError, DivergenceError, FmnistError


@pytest.mark.parametrize(
    ("error", "code"),
    [(FmnistError, 2), (ConfigError, 2), (DataError, 2), (CheckpointError, 2), (DivergenceError, 1)],
)
def test_the_error_chooses_the_exit_code(
    error: type[FmnistError], code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(argv: Sequence[str]) -> None:
        raise error(f"cannot {' '.join(argv)}")

    assert exit_code(command, monkeypatch) == code
    assert capsys.readouterr().err == "error: cannot a b\n"


@pytest.mark.parametrize(("answer", "code"), [(None, 0), (0, 0), (3, 3)])
def test_the_answer_of_a_command_is_its_exit_code(
    answer: int | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (exit_code(lambda _: answer, monkeypatch) or 0) == code


def exit_code(command: Callable[[Sequence[str]], int | None], monkeypatch: pytest.MonkeyPatch) -> Any:
    # What a command sets for its whole process must not outlive this test.
    monkeypatch.setattr(cli, "install_exit_handlers", lambda: None)
    for logger in ("absl", "asyncio"):
        monkeypatch.setattr(logging.getLogger(logger), "setLevel", lambda _: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(cli, "enable_compilation_cache", lambda: None)
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(sys, "argv", ["train", "a", "b"])
    with pytest.raises(SystemExit) as stop:
        cli.run_command(command)
    return stop.value.code


def test_a_full_device_is_one_line_and_any_other_error_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_: Sequence[str]) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 47040000 bytes.")

    def fail(_: Sequence[str]) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: oh")

    assert exit_code(fill, monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the device is out of memory: free it of other processes")
    with pytest.raises(jax.errors.JaxRuntimeError, match="oh"):
        exit_code(fail, monkeypatch)


def test_writes_that_fail_beside_the_one_that_is_told_add_no_line() -> None:
    program = """
import asyncio, logging
from fmnist_jax.commands import cli
from fmnist_jax.errors import CheckpointError

async def write():
    raise OSError("disk full")

async def write_all():
    beside = asyncio.ensure_future(write())
    await asyncio.sleep(0)
    raise CheckpointError("cannot write")

logging.basicConfig()
cli.run_command(lambda _: asyncio.run(write_all()))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: cannot write\n")


def test_a_reader_that_goes_away_ends_a_command_as_it_ends_most_programs() -> None:
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1])}
    command = [sys.executable, "-m", "fmnist_jax.train", "--print-config"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")  # noqa: PTH110
@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [(["train", "--print-config"], ""), (["train", "--help"], "1"), (["--version"], ""), ([], "1")],
)
def test_what_was_asked_for_and_cannot_be_printed_is_an_error_of_one_line(
    arguments: list[str], unbuffered: str
) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1]),
        "PYTHONUNBUFFERED": unbuffered,
    }
    command = [sys.executable, "-m", "fmnist_jax", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: standard output cannot be written (No space left on device)")


def test_a_working_directory_that_has_been_deleted_is_said(tmp_path: Path) -> None:
    script = "import os, sys; from fmnist_jax.commands import cli; os.rmdir(os.getcwd()); cli.run_command(lambda _: 0)"
    (tmp_path / "gone").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path / "gone",
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: the working directory cannot be found")
