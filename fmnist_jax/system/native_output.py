"""Redirects what native code prints, and handles its abort, so that a process prints one line of ours instead.

JAX's coordination service ends a process whose peers have gone by `abort`, with a page of stack trace; its collectives
print greetings on standard output.
"""

import atexit
import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_handlers: list[Any] = []  # the C library holds no reference to what it calls


def redirect_to_file(prefix: str) -> Path:
    """Redirects what native code prints to a temporary file; what Python prints still goes where it did.

    Args:
      prefix: of the file's name.

    Returns:
      The file, which is removed when the interpreter exits normally.
    """
    descriptor, path = tempfile.mkstemp(prefix=f"{prefix}-", suffix=".log")
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is not None and _writes_to(stream, number):
            stream.flush()
            setattr(sys, name, os.fdopen(os.dup(number), "w", buffering=1, errors="backslashreplace"))
        os.dup2(descriptor, number)
    os.close(descriptor)
    atexit.register(Path(path).unlink, missing_ok=True)
    return Path(path)


def _writes_to(stream: object, number: int) -> bool:
    try:
        return stream.fileno() == number  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False


def on_abort(end: Callable[[], None]) -> None:
    """Has `end`, which must not return, called when native code aborts the process, if the C library supports it."""
    try:
        library = ctypes.CDLL(None)
        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: end())
        library.signal(int(signal.SIGABRT), handler)
    except (OSError, AttributeError, TypeError):  # Windows
        return
    _handlers.append(handler)
