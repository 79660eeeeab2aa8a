import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import pytest
import tyro
from hypothesis import given, settings, strategies as st

import fmnist_jax
from fmnist_jax.commands import cli
from fmnist_jax.errors import CheckpointError, ConfigError, DataError, DivergenceError, FmnistError


@dataclass(frozen=True)
class Arguments:
    """Bakes loaves."""

    oven: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OVEN")]
    """Where."""
    loaves: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which."""
    minutes: int = 40
    """How long."""
    crust: Literal["soft", "hard"] = "soft"
    """How."""


def parse(*argv: str) -> Arguments:
    return cli.parse_arguments(Arguments, argv, prog="bake")


def refused(*argv: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(*argv)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_positional_arguments_stand_before_or_after_flags() -> None:
    expected = Arguments(Path("oven"), ("rye", "-"), minutes=7)
    assert parse("oven", "rye", "-", "--minutes", "7") == expected
    assert parse("--minutes=7", "oven", "rye", "-") == expected
    assert parse("oven") == Arguments(Path("oven"))


def test_arguments_change_the_values_that_they_start_from() -> None:
    default = Arguments(Path("oven"), ("rye",), minutes=7, crust="hard")
    assert cli.parse_arguments(Arguments, [], "bake", default) == default
    assert cli.parse_arguments(Arguments, ["--crust", "soft"], "bake", default).minutes == 7


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["Missing", "OVEN"]),
        (["--minutes", "7"], ["Missing", "OVEN"]),
        (["oven", "--minute", "7"], ["--minute", "did you mean --minutes?"]),
        (["oven", "--bogus"], ["--bogus"]),
        (["oven", "--minutes", "seven"], ["--minutes", "'seven'"]),
        (["oven", "--crust", "none"], ["--crust", "'none'", "'soft', 'hard'"]),
        (["oven", "--crust", "none", "--minutes", "seven"], ["'none'", "'seven'"]),
        (["oven", "--crust", "none", "--minutes", "seven", "--bogus", "1"], ["'none'", "'seven'", "--bogus"]),
    ],
)
def test_arguments_that_cannot_be_read_are_named_all_at_once(argv: list[str], words: list[str]) -> None:
    message = refused(*argv)
    assert all(word in message for word in words), message
    assert message.endswith("; see --help")


def test_what_stood_behind_a_refused_flag_is_not_called_missing() -> None:
    assert "Missing" not in refused("--minutes", "seven", "oven")


def test_values_that_cannot_be_used_are_told_with_arguments_that_cannot_be_read() -> None:
    def check(arguments: Arguments) -> None:
        if arguments.minutes < 1:
            raise ConfigError(f"--minutes is {arguments.minutes}: choose at least 1")

    argv = ["oven", "--minutes", "0", "--crust", "none"]
    with pytest.raises(ConfigError, match=r"'none'.*; --minutes is 0: choose at least 1$"):
        cli.parse_arguments(Arguments, argv, "bake", check=check)
    with pytest.raises(ConfigError, match=r"^--minutes is 0: choose at least 1$"):
        cli.parse_arguments(Arguments, argv[:3], "bake", check=check)


def test_help_goes_to_standard_output_and_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    out, err = capsys.readouterr()
    assert (stop.value.code or 0, err) == (0, "")
    assert all(word in out for word in ("usage: bake", "Bakes loaves.", "OVEN", "How long.", "{soft,hard}"))


TOKENS = st.sampled_from(["oven", "-", "--", "--minutes", "--crust", "hard", "7", "--bogus", "-1", "--crust="])


@settings(deadline=None, max_examples=60)
@given(st.lists(TOKENS | st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=5))
def test_any_arguments_are_parsed_or_refused_in_one_line(argv: list[str]) -> None:
    message = "parsed"
    code: str | int | None = 0
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            parse(*argv)
        except ConfigError as error:
            message = str(error)
        except SystemExit as stop:
            code = stop.code
    assert len(message.splitlines()) == 1
    assert not code


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
    monkeypatch.setattr(cli, "end_on_signals", lambda: None)
    for logger in ("absl", "asyncio"):
        monkeypatch.setattr(logging.getLogger(logger), "setLevel", lambda _: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(cli, "keep_executables", lambda: None)
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


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["a", "--oven", ""], "--oven is empty: give a value, or omit it"),
        (["", "--minutes="], "an argument is empty: give a value, or omit it; --minutes is empty: give"),
    ],
)
def test_a_variable_that_is_not_set_names_no_folder(argv: list[str], problem: str) -> None:
    assert refused(*argv).startswith(problem)


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
