"""Messages printed during the work: a convenience, so a screen, pipe or disk that fails does not end the work."""

import os
import sys
from contextlib import suppress
from typing import Any, TextIO


class BestEffortStream:
    """A text stream that is given up the first time a write fails: its terminal or reader is gone, or its disk is full.

    `print` and rich accept it as a file.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Takes the stream; None, as `sys.stdout` is in a process without one, counts as given up."""
        self._stream = stream
        self._holds_own_text_only = False

    def write(self, text: str) -> int:
        """Writes text, or does nothing once the stream has been given up."""
        try:
            if self._stream is not None:
                if not self._holds_own_text_only:
                    self._stream.flush()  # what a script has printed before
                    self._holds_own_text_only = True
                self._stream.write(text)
        except (OSError, ValueError):  # ValueError: it is closed, or cannot encode the text
            self._give_up()
        return len(text)

    def flush(self) -> None:
        """Flushes what has been written."""
        try:
            if self._stream is not None:
                self._stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def _give_up(self) -> None:
        """Drops the text that could not be written, over which the next flush of the stream would fail as well."""
        stream, self._stream = self._stream, None
        if not self._holds_own_text_only:
            return
        with suppress(OSError, ValueError, AttributeError):  # it has no descriptor, or is closed
            _flush_to_null(stream)

    def isatty(self) -> bool:
        """Whether somebody may be watching: asks the stream itself, which `FORCE_COLOR` and the like do not affect."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    @property
    def encoding(self) -> str:
        """The stream's encoding; rich draws with the characters in it."""
        return getattr(self._stream, "encoding", None) or "utf-8"


def _flush_to_null(stream: Any) -> None:
    """Empties the buffer of a stream into the null device, after which it is connected as before."""
    number = stream.fileno()
    connected, null = os.dup(number), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, number)
        stream.flush()
    finally:
        os.dup2(connected, number)
        os.close(connected)
        os.close(null)


def say(text: str) -> None:
    """Prints a line on standard output, if it can be printed."""
    print(text, file=BestEffortStream(sys.stdout), flush=True)


def warn(text: str) -> None:
    """Prints a line on standard error, if it can be printed."""
    print(text, file=BestEffortStream(sys.stderr), flush=True)


def open_standard_streams() -> None:
    """Opens the null device for each standard stream that the process was started without (`>&-`).

    Otherwise the next file opened would get the descriptor of one, and then the messages that libraries print.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    # Libraries ask them whether they are a terminal.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # of another kind than the interpreter's own
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def final_flush(stream: TextIO | None) -> OSError | None:
    """Flushes a standard stream for the last time; if that fails, returns the error and drops what the stream holds."""
    if stream is None or stream.closed:
        return None
    try:
        stream.flush()
    except OSError as error:
        # The interpreter flushes it once more as it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None
