"""The vote of one process; that of several is tested with two of them, in `test_processes`."""

import signal

from fmnist_jax.config.schema import Config, ParallelConfig
from fmnist_jax.runs.interruption import StopRequest
from fmnist_jax.runs.parallel import choose_layout
from fmnist_jax.runs.voting import Vote


def test_of_one_process_the_signal_that_it_has_received_is_the_answer_at_once() -> None:
    requests = StopRequest()
    vote = Vote(choose_layout(Config(parallel=ParallelConfig(devices=2))), requests)
    assert vote.poll() is None
    requests.received = signal.SIGTERM
    assert vote.poll() is signal.SIGTERM
