"""Signals: noted, not died of, and the handlers of before are back afterwards."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from fmnist_jax.runs.interruption import InterruptionError, record_signals


@pytest.fixture(autouse=True)
def _in_the_foreground() -> Iterator[None]:
    # A background job starts with the first ignored, and under nohup with the other.
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGHUP, before[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_noted_and_the_previous_handlers_return(number: signal.Signals) -> None:
    every = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(each) for each in every]
    with record_signals() as requests:
        assert not requests.received
        os.kill(os.getpid(), number)
        assert requests.received is number
    assert [signal.getsignal(each) for each in every] == before


def test_what_is_ignored_stays_ignored_as_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with record_signals() as requests:
            signal.raise_signal(signal.SIGHUP)
            assert requests.received is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_interrupt_does_what_it_did_before() -> None:
    def interrupt_twice() -> None:
        with record_signals():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_return_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError), record_signals():
        raise RuntimeError
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_listens_to_nothing_and_breaks_nothing() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with record_signals() as requests:
            seen.append((requests.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


def test_the_exit_code_is_the_one_that_a_shell_gives() -> None:
    assert InterruptionError(signal.SIGTERM, "").exit_code == 143
    assert InterruptionError(signal.SIGINT, "").exit_code == 130
