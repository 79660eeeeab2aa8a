"""Signals that end the process where something is half-done: what has been begun is taken back first."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class _Ending(KeyboardInterrupt):
    """Unwinds what a signal has interrupted; no `except Exception` takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def end_at_once(number: int, frame: FrameType | None = None) -> None:
    """Ends the process with the exit code of a signal: for the first one of a container, which no signal ends."""
    del frame
    os._exit(128 + number)


def _unwind(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, signal.SIG_DFL)  # a second one waits for nothing
    raise _Ending(number)


@contextmanager
def unwinding() -> Iterator[None]:
    """Has a signal that would end the process at once unwind this block as an exception, and end the process then.

    A signal that is ignored or has a handler of its own keeps it, as Ctrl-C does in a notebook; a block within a block
    adds nothing. Outside the main thread, where Python allows no handlers, nothing changes.
    """
    at_once: dict[int, object] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        at_once = {number: each for number, each in handlers.items() if each in (signal.SIG_DFL, end_at_once)}
    for number in at_once:
        signal.signal(number, _unwind)
    ended_by: int | None = None
    try:
        yield
    except _Ending as ending:
        if ending.number not in at_once:
            raise
        ended_by = ending.number
    finally:
        for number, handler in at_once.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as `getsignal` gave it
        if ended_by is not None:
            signal.raise_signal(ended_by)
