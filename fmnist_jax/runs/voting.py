"""Whether to stop, agreed upon by all processes: a signal to any of them stops all of them after the same step."""

import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from fmnist_jax.runs.interruption import Requests
from fmnist_jax.runs.parallel import Layout, place


class Vote:
    """Asks all processes at the end of each chunk; the answer is read at the end of the next one, which runs meanwhile.

    A single process needs no vote: the signal that it has received is the answer.
    """

    def __init__(self, layout: Layout, requests: Requests) -> None:
        """Takes the devices that the vote is held on, and the record of received signals."""
        self._requests = requests
        self._alone = jax.process_count() == 1
        self._sharding = NamedSharding(layout.mesh, PartitionSpec(layout.axis))
        self._size = layout.mesh.size
        self._largest: Any = jax.jit(jnp.max, out_shardings=layout.everywhere)
        self._asked: Array | None = None

    def answer(self) -> signal.Signals | None:
        """The signal that stops the run, if any, the same in every process; also starts the next vote."""
        if self._alone:
            return self._requests.received
        before, received = self._asked, int(self._requests.received or 0)
        self._asked = self._largest(place(np.full(self._size, received, np.int32), self._sharding))
        number = 0 if before is None else int(jax.device_get(before))
        return signal.Signals(number) if number else None
