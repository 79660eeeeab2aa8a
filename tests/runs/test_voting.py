"""The vote of one process; that of several is tested with two of them, in `test_processes`."""

import signal

from fmnist_jax.config.schema import Config, ParallelConfig
from fmnist_jax.runs.interruption import Requests
from fmnist_jax.runs.parallel import choose
from fmnist_jax.runs.voting import Vote


def test_of_one_process_the_signal_that_it_has_received_is_the_answer_at_once() -> None:
    requests = Requests()
    vote = Vote(choose(Config(parallel=ParallelConfig(devices=2))), requests)
    assert vote.answer() is None
    requests.received = signal.SIGTERM
    assert vote.answer() is signal.SIGTERM
