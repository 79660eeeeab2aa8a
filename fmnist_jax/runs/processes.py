"""Several processes of one run: who they are, what they decide together, and that none outlives the others.

All of them take part in every compiled program; the first one alone locks, prints and writes. Decisions and refusals
are exchanged before anything is compiled for training. An error that only one process has met ends it at once, because
JAX's orderly shutdown would wait for processes that are waiting for it.
"""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from fmnist_jax.config.schema import ParallelConfig
from fmnist_jax.errors import FmnistError, in_one_line
from fmnist_jax.runs.leaves import Snapshot
from fmnist_jax.system import native_output, output
from fmnist_jax.system.compilation import RAISED_BY_XLA
from fmnist_jax.system.heartbeat import Heartbeat

T = TypeVar("T")

_PATIENCE = 2  # times the heartbeat, after which JAX itself would abort a process with a stack trace
_ARRIVAL = 10  # times the heartbeat, within which all processes must have started

_NAMING = 2.0  # seconds
_TELLING = 1.0  # seconds for the others to print why they end, before they notice that this one has gone
_RESUME = ": start all processes again with the same --run.dir to resume"
# How the errors of failed collectives begin.
_OF_PEERS = ("UNKNOWN: ", "UNAVAILABLE: ", "ABORTED: ", "CANCELLED: ", "DEADLINE_EXCEEDED: ", "INTERNAL: ")

_leaving = threading.Lock()


class PeerError(FmnistError):
    """Another process of the run has met an error that ends them all."""

    agreed = True

    def __init__(self, label: str, message: str, exit_code: int) -> None:
        """Takes over the label, message and exit code of that error."""
        super().__init__(message)
        self.label, self.exit_code = label, exit_code


def join(parallel: ParallelConfig) -> None:
    """Joins this process with the others of the run, if any; to be called before JAX looks for devices.

    Raises:
      FmnistError: the others cannot be reached.
    """
    if not parallel.distributed or jax.distributed.is_initialized():
        return
    # JAX's own preemption notifier would catch SIGTERM, which a run handles itself.
    jax.config.update("jax_enable_preemption_service", False)
    printed, patience = native_output.set_aside("fmnist_jax"), _ARRIVAL * parallel.heartbeat
    missing = (
        f"error: the processes of the run did not all start within {patience} s, according to JAX ({printed}){_RESUME}"
    )
    native_output.on_abort(lambda: _end(missing, 2))
    try:
        jax.distributed.initialize(
            parallel.coordinator,
            parallel.processes or None,
            None if parallel.process_id < 0 else parallel.process_id,
            heartbeat_timeout_seconds=_PATIENCE * parallel.heartbeat,
            initialization_timeout=patience,
        )
    except (ValueError, RuntimeError) as error:
        raise FmnistError(
            f"the processes of the run cannot be joined ({in_one_line(error, 300)}): start all of them with "
            f"the same --parallel.coordinator and --parallel.processes, each with its own --parallel.process-id"
        ) from error
    gone = f"error: another process of the run has gone, according to JAX ({printed}){_RESUME}"
    native_output.on_abort(lambda: _end(gone, 2))


def is_first() -> bool:
    """Whether this process is the one that locks, prints and writes: the only one, or the first of several."""
    return jax.process_index() == 0


@contextmanager
def bound(parallel: ParallelConfig) -> Iterator[None]:
    """Binds the processes of a run together: if one ends without the others' agreement, all of them end.

    With a single process this does nothing.
    """
    if jax.process_count() == 1:
        yield
        return
    if not is_first():
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # to the end of the process
    heartbeat = _watch_others(parallel.heartbeat)
    try:
        yield
    except BaseException as error:  # including KeyboardInterrupt, of which the others know nothing
        if not (isinstance(error, FmnistError) and error.agreed):
            _leave(error, heartbeat)
        raise
    finally:
        heartbeat.say_goodbye()


def _watch_others(seconds: float) -> Heartbeat:
    heartbeat = Heartbeat(seconds, lambda what: _end(f"error: {what}{_RESUME}", 2, heartbeat))
    names, port, password = exchange(heartbeat.listen() if is_first() else None)[0]

    def meet() -> None:
        if is_first():
            heartbeat.accept(jax.process_count() - 1)
        else:
            heartbeat.connect(names, port, password, jax.process_index())

    try:
        meet()
    except OSError as error:
        output.warn(
            f"warning: process {jax.process_index()} cannot watch the others ({error}): JAX will notice one that "
            f"falls silent, after {_PATIENCE * seconds:g} s"
        )
    return heartbeat


def _leave(error: BaseException, heartbeat: Heartbeat) -> None:
    """Ends the process with the message of an error, which the others are told."""
    said, unforeseen = in_one_line(error), None
    if isinstance(error, FmnistError):
        line, code = f"{error.label}: {error}", error.exit_code
    elif isinstance(error, RAISED_BY_XLA) and said.startswith(_OF_PEERS):
        time.sleep(_NAMING)  # meanwhile the heartbeat may end this process, naming the other one
        line, code = f"error: another process has gone ({said}){_RESUME}", 2
    else:
        line, code = "error: " + ": ".join(dict.fromkeys((type(error).__name__, said))), 1
        unforeseen = error
    _end(line, code, heartbeat, unforeseen)


def _end(line: str, code: int, heartbeat: Heartbeat | None = None, unforeseen: BaseException | None = None) -> None:
    """Ends the process with a line on standard error, and tells the others; of several calls only the first counts."""
    _leaving.acquire()
    if unforeseen is not None:
        traceback.print_exception(unforeseen)
    output.warn(line)
    if heartbeat is not None:
        heartbeat.say_goodbye(line.partition(": ")[2].removesuffix(_RESUME))
        time.sleep(_TELLING)
    os._exit(code)


def exchange(value: Any) -> list[Any]:
    """Gives every process the JSON values of all of them, in process order; all of them must call this."""
    if jax.process_count() == 1:
        return [value]
    text = json.dumps(value).encode()
    size = int(np.max(multihost_utils.process_allgather(np.int32(len(text)))))
    texts = multihost_utils.process_allgather(np.frombuffer(text.ljust(size), np.uint8))
    return [json.loads(bytes(row)) for row in np.asarray(texts)]


def together(work: Callable[[], T]) -> T:
    """Does work in every process; an `FmnistError` in one of them ends them all.

    Raises:
      FmnistError: raised by the work in this process.
      PeerError: the work in another process raised one.
    """
    if jax.process_count() == 1:
        return work()
    result, problem = _attempted(work)
    problems = exchange(None if problem is None else _described(problem))
    if problem is not None:
        problem.agreed = True
        raise problem
    for number, found in enumerate(problems):
        if found is not None:
            raise PeerError(found["label"], f"process {number}: {found['message']}", found["exit_code"])
    return result  # type: ignore[return-value]  # there is one where there is no problem


def first_alone(work: Callable[[], T]) -> T:
    """Does work in the first process only, and gives its JSON value to all of them.

    Raises:
      FmnistError: raised by the work, in the first process.
      PeerError: the same, in the others.
    """
    if jax.process_count() == 1:
        return work()
    result = together(lambda: work() if is_first() else None)
    return exchange(result)[0]


def hand_on(saved: Snapshot | None) -> Snapshot:
    """Gives every process the arrays of the first one, bit for bit; the others pass None."""
    if jax.process_count() == 1:
        assert saved is not None
        return saved
    described = saved and [{name: (leaf.dtype.name, leaf.shape) for name, leaf in saved.leaves.items()}, saved.keys]
    shapes, keys = exchange(described)[0]
    like = {name: np.empty(shape, dtype) for name, (dtype, shape) in shapes.items()}
    # As bytes, because the broadcast is a sum, which turns -0 into 0.
    sent = {name: np.frombuffer((saved.leaves if saved else like)[name].tobytes(), np.uint8) for name in like}
    received = multihost_utils.broadcast_one_to_all(sent)
    leaves = {
        name: np.frombuffer(np.asarray(received[name]).tobytes(), leaf.dtype).reshape(leaf.shape)
        for name, leaf in like.items()
    }
    return Snapshot(leaves, keys)


def _attempted(work: Callable[[], T]) -> tuple[T | None, FmnistError | None]:
    try:
        return work(), None
    except FmnistError as error:
        return None, error


def _described(error: FmnistError) -> Mapping[str, Any]:
    return {"label": error.label, "message": str(error), "exit_code": error.exit_code}
