"""Signals: recorded instead of fatal, and the previous handlers restored afterwards."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from fmnist_jax.runs.interruption import InterruptionError, record_signals


@pytest.fixture(autouse=True)
def _foreground_handlers() -> Iterator[None]:
    # A background job starts with SIGINT ignored, and a job under nohup with SIGHUP ignored.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, previous[0])
    signal.signal(signal.SIGHUP, previous[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_is_recorded_and_previous_handlers_are_restored(number: signal.Signals) -> None:
    handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    previous = [signal.getsignal(sig) for sig in handled]
    with record_signals() as stop_request:
        assert not stop_request.received
        os.kill(os.getpid(), number)
        assert stop_request.received is number
    assert [signal.getsignal(sig) for sig in handled] == previous


def test_ignored_sighup_stays_ignored_as_under_nohup() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with record_signals() as stop_request:
            signal.raise_signal(signal.SIGHUP)
            assert stop_request.received is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("terminal", [True, False])
def test_interrupt_from_a_terminal_is_acknowledged_there_once(number: signal.Signals, terminal: bool) -> None:
    reader, writer = os.openpty() if terminal else os.pipe()
    standard_error = os.dup(2)
    os.dup2(writer, 2)
    try:
        with record_signals():
            signal.raise_signal(number)
        os.write(2, b"end\n")
    finally:
        os.dup2(standard_error, 2)
    shown = b""
    while not shown.rstrip().endswith(b"end"):
        shown += os.read(reader, 1000)
    for descriptor in (reader, writer, standard_error):
        os.close(descriptor)
    assert shown.count(b"Ctrl-C again ends at once") == (terminal and number == signal.SIGINT)


def test_second_interrupt_raises_keyboard_interrupt() -> None:
    def interrupt_twice() -> None:
        with record_signals():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_are_restored_after_an_exception() -> None:
    previous = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError), record_signals():
        raise RuntimeError
    assert signal.getsignal(signal.SIGTERM) is previous


def test_other_thread_records_nothing_and_keeps_the_handlers() -> None:
    previous, observed = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with record_signals() as stop_request:
            observed.append((stop_request.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert observed == [(None, previous)]


def test_exit_code_is_128_plus_the_signal_number() -> None:
    assert InterruptionError(signal.SIGTERM, "").exit_code == 143
    assert InterruptionError(signal.SIGINT, "").exit_code == 130
