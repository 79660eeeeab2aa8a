"""What is said while work goes on: a convenience, so that a screen, pipe or disk that fails ends no work."""

import os
import sys
from contextlib import suppress
from typing import TextIO


class Unfailing:
    """A text stream that is given up the first time it cannot be written: its terminal or reader gone, its disk full.

    A file for `print` and for rich.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Takes the stream; None, as `sys.stdout` is in a process without one, is given up already."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes a text, or does nothing once the stream has been given up."""
        try:
            if self._stream is not None:
                self._stream.write(text)
        except (OSError, ValueError):  # ValueError: it is closed, or cannot encode the text
            self._stream = None
        return len(text)

    def flush(self) -> None:
        """Hands on what has been written."""
        try:
            if self._stream is not None:
                self._stream.flush()
        except (OSError, ValueError):
            self._stream = None

    def isatty(self) -> bool:
        """Whether somebody may be looking: asked of the stream, which `FORCE_COLOR` and its like do not change."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    @property
    def encoding(self) -> str:
        """Of the stream; rich draws with what it has."""
        return getattr(self._stream, "encoding", None) or "utf-8"


def say(text: str) -> None:
    """Prints a line on standard output, if it can be printed."""
    print(text, file=Unfailing(sys.stdout), flush=True)


def warn(text: str) -> None:
    """Prints a line on standard error, if it can be printed."""
    print(text, file=Unfailing(sys.stderr), flush=True)


def open_standard_streams() -> None:
    """Gives a process that was started without some of its standard streams (`>&-`) the null device for each.

    The next file to be opened would take the place of one, and then the messages that libraries print.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    # Libraries ask them whether they are a terminal.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # of another kind than the interpreter's own
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def let_go(stream: TextIO | None) -> OSError | None:
    """Flushes a standard stream for the last time; of one that fails, returns why, and drops what it holds."""
    if stream is None or stream.closed:
        return None
    try:
        stream.flush()
    except OSError as error:
        # The interpreter flushes it once more as it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None
