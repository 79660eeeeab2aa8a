"""Whether to stop, agreed upon by all processes: a signal to any of them stops all of them after the same step."""

import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from fmnist_jax.runs.interruption import StopRequest
from fmnist_jax.runs.parallel import Layout, place


class Vote:
    """Asks all processes at the end of each chunk; the answer is read at the end of the next one, which runs meanwhile.

    A single process needs no vote: the signal that it has received is the answer.
    """

    def __init__(self, layout: Layout, stop_request: StopRequest) -> None:
        """Takes the devices that the vote is held on, and the record of received signals."""
        self._stop_request = stop_request
        self._alone = jax.process_count() == 1
        self._sharding = NamedSharding(layout.mesh, PartitionSpec(layout.axis))
        self._size = layout.mesh.size
        self._max: Any = jax.jit(jnp.max, out_shardings=layout.replicated)
        self._pending: Array | None = None

    def poll(self) -> signal.Signals | None:
        """The signal that stops the run, if any, the same in every process; also starts the next vote."""
        if self._alone:
            return self._stop_request.received
        pending, received = self._pending, int(self._stop_request.received or 0)
        self._pending = self._max(place(np.full(self._size, received, np.int32), self._sharding))
        number = 0 if pending is None else int(jax.device_get(pending))
        return signal.Signals(number) if number else None
