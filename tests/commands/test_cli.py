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
def test_exit_code_depends_on_the_error_type(
    error: type[FmnistError], code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(argv: Sequence[str]) -> None:
        raise error(f"cannot {' '.join(argv)}")

    assert exit_code(command, monkeypatch) == code
    assert capsys.readouterr().err == "error: cannot a b\n"


@pytest.mark.parametrize(("return_value", "code"), [(None, 0), (0, 0), (3, 3)])
def test_return_value_of_a_command_is_its_exit_code(
    return_value: int | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (exit_code(lambda _: return_value, monkeypatch) or 0) == code


def exit_code(command: Callable[[Sequence[str]], int | None], monkeypatch: pytest.MonkeyPatch) -> Any:
    # Process-wide settings of a command must not outlive the test.
    monkeypatch.setattr(cli, "install_exit_handlers", lambda: None)
    for logger in ("absl", "asyncio"):
        monkeypatch.setattr(logging.getLogger(logger), "setLevel", lambda _: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(cli, "enable_compilation_cache", lambda: None)
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(sys, "argv", ["train", "a", "b"])
    with pytest.raises(SystemExit) as exc_info:
        cli.run_command(command)
    return exc_info.value.code


def test_device_out_of_memory_is_a_one_line_error_and_other_jax_errors_propagate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust_memory(_: Sequence[str]) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 47040000 bytes.")

    def raise_internal_error(_: Sequence[str]) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: oh")

    assert exit_code(exhaust_memory, monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the device is out of memory: free it of other processes")
    with pytest.raises(jax.errors.JaxRuntimeError, match="oh"):
        exit_code(raise_internal_error, monkeypatch)


def test_concurrent_write_failures_add_no_output_to_the_reported_error() -> None:
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
    completed = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert (completed.returncode, completed.stderr) == (2, "error: cannot write\n")


def test_closed_stdout_pipe_exits_with_the_sigpipe_status() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1])}
    command = [sys.executable, "-m", "fmnist_jax.train", "--print-config"]
    completed = subprocess.run(
        command, stdout=write_end, stderr=subprocess.PIPE, text=True, env=environment, check=False
    )
    os.close(write_end)
    assert (completed.returncode, completed.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")  # noqa: PTH110
@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [(["train", "--print-config"], ""), (["train", "--help"], "1"), (["--version"], ""), ([], "1")],
)
def test_unwritable_stdout_is_a_one_line_error(arguments: list[str], unbuffered: str) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1]),
        "PYTHONUNBUFFERED": unbuffered,
    }
    command = [sys.executable, "-m", "fmnist_jax", *arguments]
    with Path("/dev/full").open("w") as full_device:
        completed = subprocess.run(
            command, stdout=full_device, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
    assert completed.returncode == 2
    (line,) = completed.stderr.splitlines()
    assert line.startswith("error: standard output cannot be written (No space left on device)")


def test_deleted_working_directory_is_reported(tmp_path: Path) -> None:
    script = "import os, sys; from fmnist_jax.commands import cli; os.rmdir(os.getcwd()); cli.run_command(lambda _: 0)"
    (tmp_path / "gone").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1])}
    completed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path / "gone",
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert completed.returncode == 2
    assert completed.stderr.startswith("error: the working directory cannot be found")
