"""Signals that end a command's process: at once, or after half-done work has been undone."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, SimpleNamespace
from typing import Any

TERMINATION_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
"""The signals that end a process unless it handles them."""

# A process that runs no command, such as a notebook's, has handlers of its own, and Python could not restore some that
# libraries set.
_process = SimpleNamespace(of_a_command=False)


class _Termination(KeyboardInterrupt):
    """Unwinds what a signal has interrupted; no `except Exception` catches it."""


def install_exit_handlers() -> None:
    """Makes Ctrl-C end the process as it ends most programs, without a traceback, unless it is ignored (`nohup`, `&`).

    The first process of a container only receives signals that it has a handler for.
    """
    _process.of_a_command = True
    not_ignored = [number for number in TERMINATION_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    if signal.SIGINT in not_ignored:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.getpid() == 1:
        for number in not_ignored:
            signal.signal(number, _exit_at_once)


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(128 + number)


@contextmanager
def unwind_on_signal() -> Iterator[None]:
    """Makes a signal that would end a command's process at once unwind this block first.

    Once it is unwound, the process ends, whatever came of that. A signal that is ignored or has a handler of its own is
    left alone; nested blocks add nothing.
    """
    received: list[int] = []

    def unwind(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        restore()  # so that a second signal acts at once
        raise _Termination

    def restore() -> None:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)

    applies = _process.of_a_command and threading.current_thread() is threading.main_thread()  # as Python requires
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in TERMINATION_SIGNALS} if applies else {}
    previous_handlers = {
        number: handler for number, handler in handlers.items() if handler in (signal.SIG_DFL, _exit_at_once)
    }
    try:
        for number in previous_handlers:
            signal.signal(number, unwind)
        yield
    finally:
        restore()
        if received:
            signal.raise_signal(received[0])
