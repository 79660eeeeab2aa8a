"""Signals: noted, not died of, and the handlers of before are back afterwards."""

import os
import signal
import threading

import pytest

from fmnist_jax.runs.interruption import InterruptionError, listen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_the_previous_handlers_return(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with listen() as requests:
        assert not requests.received
        os.kill(os.getpid(), number)
        assert requests.received is number
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_second_interrupt_does_what_it_did_before() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored

    def interrupt_twice() -> None:
        with listen():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupt_twice()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_return_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError), listen():
        raise RuntimeError
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_listens_to_nothing_and_breaks_nothing() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with listen() as requests:
            seen.append((requests.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


def test_the_exit_code_is_the_one_that_a_shell_gives() -> None:
    assert InterruptionError(signal.SIGTERM, "").exit_code == 143
    assert InterruptionError(signal.SIGINT, "").exit_code == 130
