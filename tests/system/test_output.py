"""Streams that fail while a run says something."""

import errno
import io
import os
import subprocess
import sys
from typing import Any, TextIO, cast

import pytest
from rich.console import Console

from fmnist_jax.system import output
from fmnist_jax.system.output import BestEffortStream


class Failing(io.StringIO):
    """A stream whose writes, or only its flushes, fail after so many."""

    def __init__(self, error: Exception, writes: int = 0, flushes: int = 0) -> None:
        super().__init__()
        self._error, self._writes, self._flushes, self.tried = error, writes, flushes, 0

    def write(self, text: str) -> int:
        self.tried += 1
        if self.tried > self._writes:
            raise self._error
        return super().write(text)

    def flush(self) -> None:
        if self.tried > self._flushes:
            raise self._error


ERRORS = [
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ENOSPC, "No space left on device"),
    ValueError("I/O operation on closed file"),
    UnicodeEncodeError("ascii", "ü", 0, 1, "ordinal not in range(128)"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_stream_that_fails_is_given_up_and_nothing_is_raised(error: Exception) -> None:
    stream = Failing(error, writes=2, flushes=100)
    screen = BestEffortStream(stream)
    for line in ("one", "two", "three"):
        print(line, file=screen, flush=True)
    assert stream.getvalue() == "one\n"
    assert stream.tried == 3, "the fourth write and later ones are not even tried"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_rich_draws_on_one_and_goes_on(error: Exception) -> None:
    console = Console(file=cast(TextIO, BestEffortStream(Failing(error))))
    console.print("anything")
    console.print("more")


def test_none_is_a_stream_that_has_been_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    output.say("anything")
    output.warn("anything")
    assert not BestEffortStream(None).isatty()
    assert BestEffortStream(None).encoding == "utf-8"


@pytest.mark.parametrize("answer", [True, False])
def test_the_stream_itself_is_asked_whether_it_is_a_terminal(answer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.setenv(name, "1")
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: answer)
    assert BestEffortStream(stream).isatty() is answer
    stream.close()
    monkeypatch.undo()
    assert not BestEffortStream(stream).isatty()


def test_what_is_said_goes_to_its_stream(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("to one")
    output.warn("to the other")
    assert capsys.readouterr() == ("to one\n", "to the other\n")


def run_without(closed: str, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = f'exec "$0" -c "$1" {closed}'
    return subprocess.run(["sh", "-c", command, sys.executable, script], text=True, check=False, **options)


def test_a_file_opened_later_does_not_become_a_closed_stream() -> None:
    script = (
        "import os, sys; from fmnist_jax.system import output\n"
        "output.open_standard_streams()\n"
        "with open('/dev/null') as file: sys.exit(file.fileno() + 10)"
    )
    assert run_without("0<&- 1>&- 2>&-", script).returncode >= 13
    assert run_without("0<&- 1>&- 2>&-", "import sys; sys.exit(open('/dev/null').fileno() + 10)").returncode < 13


def test_a_name_that_the_terminal_cannot_spell_is_escaped() -> None:
    script = "from fmnist_jax.system import output; output.open_standard_streams(); print('\\u00fc\\u4e2d')"
    done = run_without("", script, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.stdout == "\\xfc\\u4e2d\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")  # noqa: PTH110
def test_a_full_stream_is_let_go_with_its_reason_and_the_interpreter_ends_in_peace() -> None:
    script = (
        "import sys; from fmnist_jax.system import output\n"
        "print('lost'); problem = output.final_flush(sys.stdout); print(problem.strerror, file=sys.stderr)"
    )
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = run_without("> /dev/full", script, stderr=subprocess.PIPE, env=kept)
    assert done.returncode == 0
    assert done.stderr == "No space left on device\n"


def test_a_sound_stream_is_let_go_without_a_word() -> None:
    assert output.final_flush(io.StringIO()) is None
    assert output.final_flush(None) is None
