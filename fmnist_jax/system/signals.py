"""Signals that end the process of a command: at once, or where something is half-done once that is taken back."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, SimpleNamespace
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
"""The signals that end a process unless it handles them."""

# In a process that is no command's, such as a notebook's, handlers are its own, and some that libraries set are none
# that Python could put back.
_process = SimpleNamespace(of_a_command=False)


class _Ending(KeyboardInterrupt):
    """Unwinds what a signal has interrupted; no `except Exception` takes it for an error."""


def let_signals_end_the_process() -> None:
    """Has Ctrl-C end the process as it ends any other, with no traceback, unless it is to be ignored (`nohup`, `&`).

    The first process of a container gets no signal that it has no handler for.
    """
    _process.of_a_command = True
    asked_for = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    if signal.SIGINT in asked_for:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.getpid() == 1:
        for number in asked_for:
            signal.signal(number, _end_at_once)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(128 + number)


@contextmanager
def unwinding() -> Iterator[None]:
    """Has a signal that would end the process of a command at once unwind this block first.

    Once it is unwound, the process ends, whatever has come of that. A signal that is ignored or has a handler of its
    own keeps it; a block within a block adds nothing.
    """
    ended_by: list[int] = []

    def unwind(number: int, frame: FrameType | None) -> None:
        del frame
        ended_by.append(number)
        restore()  # so that a second one waits for nothing
        raise _Ending

    def restore() -> None:
        for number, handler in at_once.items():
            signal.signal(number, handler)

    ours = _process.of_a_command and threading.current_thread() is threading.main_thread()  # as Python wants of it
    before: dict[int, Any] = {number: signal.getsignal(number) for number in ENDING} if ours else {}
    at_once = {number: handler for number, handler in before.items() if handler in (signal.SIG_DFL, _end_at_once)}
    try:
        for number in at_once:
            signal.signal(number, unwind)
        yield
    finally:
        restore()
        if ended_by:
            signal.raise_signal(ended_by[0])
