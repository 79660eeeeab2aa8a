"""Stopping a run by a signal: at the end of a chunk, with a checkpoint, and with no handler left behind."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from fmnist_jax.errors import FmnistError
from fmnist_jax.system.signals import TERMINATION_SIGNALS

_STDERR = 2  # its file descriptor


class InterruptionError(FmnistError):
    """A run that was asked to stop, and has saved its state."""

    label = "stopped"
    collective = True

    def __init__(self, number: signal.Signals, message: str) -> None:
        """Takes the signal; the exit code follows from its number as in a shell (128 + number)."""
        super().__init__(message)
        self.exit_code = 128 + number


class StopRequest:
    """Holds the signal, if any, that has asked the run to stop."""

    received: signal.Signals | None = None


@contextmanager
def record_signals() -> Iterator[StopRequest]:
    """Records SIGTERM, SIGINT and SIGHUP instead of ending on them; a second one of a kind has its previous effect.

    Closing a terminal sends SIGHUP; a signal that is ignored, as under nohup, stays ignored. Outside the main thread,
    where Python allows no handlers, nothing is recorded. In a terminal, Ctrl-C is acknowledged, because a
    run may take a while to stop: it finishes its steps or a compilation.
    """
    stop_request = StopRequest()
    previous: dict[int, Any] = {}

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        stop_request.received = signal.Signals(number)
        signal.signal(number, previous[number])
        if number == signal.SIGINT:
            _acknowledge()

    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.getsignal(number) for number in TERMINATION_SIGNALS}
        previous = {number: handler for number, handler in previous.items() if handler is not signal.SIG_IGN}
    for number in previous:
        signal.signal(number, on_signal)
    try:
        yield stop_request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _acknowledge() -> None:
    """Says in a terminal that Ctrl-C was seen, past Python's own stream, which the signal may have interrupted."""
    with suppress(OSError):
        if os.isatty(_STDERR):
            os.write(_STDERR, b"\nstopping as soon as the state can be saved; Ctrl-C again ends at once\n")
