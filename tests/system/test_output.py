"""Streams that fail while a run prints something."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO, cast

import pytest
from rich.console import Console

from fmnist_jax.system import output
from fmnist_jax.system.output import BestEffortStream


class FailingStream(io.StringIO):
    """A stream whose writes and flushes fail after the given numbers of writes."""

    def __init__(self, error: Exception, writes: int = 0, flushes: int = 0) -> None:
        super().__init__()
        self._error, self._writes, self._flushes, self.attempts = error, writes, flushes, 0

    def write(self, text: str) -> int:
        self.attempts += 1
        if self.attempts > self._writes:
            raise self._error
        return super().write(text)

    def flush(self) -> None:
        if self.attempts > self._flushes:
            raise self._error


ERRORS = [
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ENOSPC, "No space left on device"),
    ValueError("I/O operation on closed file"),
    UnicodeEncodeError("ascii", "ü", 0, 1, "ordinal not in range(128)"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_failing_stream_is_given_up_without_raising(error: Exception) -> None:
    stream = FailingStream(error, writes=2, flushes=100)
    screen = BestEffortStream(stream)
    for line in ("one", "two", "three"):
        print(line, file=screen, flush=True)
    assert stream.getvalue() == "one\n"
    assert stream.attempts == 3, "the fourth write and later ones are not even attempted"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_rich_console_survives_a_failing_stream(error: Exception) -> None:
    console = Console(file=cast(TextIO, BestEffortStream(FailingStream(error))))
    console.print("anything")
    console.print("more")


def test_none_counts_as_a_stream_that_has_been_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    output.say("anything")
    output.warn("anything")
    assert not BestEffortStream(None).isatty()
    assert BestEffortStream(None).encoding == "utf-8"


@pytest.mark.parametrize("answer", [True, False])
def test_isatty_asks_the_stream_itself_and_ignores_force_color(answer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.setenv(name, "1")
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: answer)
    assert BestEffortStream(stream).isatty() is answer
    stream.close()
    monkeypatch.undo()
    assert not BestEffortStream(stream).isatty()


def test_say_writes_to_stdout_and_warn_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("to one")
    output.warn("to the other")
    assert capsys.readouterr() == ("to one\n", "to the other\n")


def run_redirected(redirections: str, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = f'exec "$0" -c "$1" {redirections}'
    return subprocess.run(["sh", "-c", command, sys.executable, script], text=True, check=False, **options)


def test_later_file_does_not_get_the_descriptor_of_a_closed_stream() -> None:
    script = (
        "import os, sys; from fmnist_jax.system import output\n"
        "output.open_standard_streams()\n"
        "with open('/dev/null') as file: sys.exit(file.fileno() + 10)"
    )
    assert run_redirected("0<&- 1>&- 2>&-", script).returncode >= 13
    assert run_redirected("0<&- 1>&- 2>&-", "import sys; sys.exit(open('/dev/null').fileno() + 10)").returncode < 13


def test_characters_that_stdout_cannot_encode_are_escaped() -> None:
    script = "from fmnist_jax.system import output; output.open_standard_streams(); print('\\u00fc\\u4e2d')"
    completed = run_redirected("", script, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert completed.stdout == "\\xfc\\u4e2d\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")  # noqa: PTH110
def test_final_flush_of_a_full_stream_returns_the_error_and_the_exit_is_clean() -> None:
    script = (
        "import sys; from fmnist_jax.system import output\n"
        "print('lost'); problem = output.final_flush(sys.stdout); print(problem.strerror, file=sys.stderr)"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    completed = run_redirected("> /dev/full", script, stderr=subprocess.PIPE, env=env)
    assert completed.returncode == 0
    assert completed.stderr == "No space left on device\n"


def test_final_flush_of_a_working_stream_returns_none() -> None:
    assert output.final_flush(io.StringIO()) is None
    assert output.final_flush(None) is None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")  # noqa: PTH110
@pytest.mark.parametrize(
    ("printed", "fails"),
    [("output.say('one'); output.say('two')", False), ("print('result'); output.say('one')", True)],
    ids=["messages", "a result before"],
)
def test_last_flush_fails_over_a_result_that_a_full_disk_refuses_but_not_over_messages(
    printed: str, fails: bool
) -> None:
    script = (
        f"import sys; from fmnist_jax.system import output; {printed}\n"
        "print(output.final_flush(sys.stdout) is not None, file=sys.stderr)"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    completed = run_redirected("> /dev/full", script, stderr=subprocess.PIPE, env=env)
    assert (completed.returncode, completed.stderr) == (0, f"{fails}\n")


def test_text_of_a_script_is_kept_where_a_message_cannot_be_encoded(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as file:
        file.write("result\n")
        print("é", file=BestEffortStream(file), flush=True)
    assert (tmp_path / "log").read_text() == "result\n"


def test_stream_given_up_once_is_connected_as_before(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        output._flush_to_null(file)
        file.write("later")
    assert (tmp_path / "log").read_text() == "later"
