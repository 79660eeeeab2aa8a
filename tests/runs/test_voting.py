"""The vote of a single process; `test_processes` tests that of two."""

import signal

from fmnist_jax.config.schema import Config, ParallelConfig
from fmnist_jax.runs.interruption import StopRequest
from fmnist_jax.runs.parallel import choose_layout
from fmnist_jax.runs.voting import Vote


def test_vote_of_a_single_process_returns_its_received_signal_at_once() -> None:
    stop_request = StopRequest()
    vote = Vote(choose_layout(Config(parallel=ParallelConfig(devices=2))), stop_request)
    assert vote.poll() is None
    stop_request.received = signal.SIGTERM
    assert vote.poll() is signal.SIGTERM
