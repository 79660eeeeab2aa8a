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
from fmnist_jax.system.compilation import XLA_ERRORS
from fmnist_jax.system.heartbeat import Heartbeat

T = TypeVar("T")

_JAX_TIMEOUT_FACTOR = 2  # times the heartbeat, after which JAX itself would abort a process with a stack trace
_STARTUP_TIMEOUT_FACTOR = 10  # times the heartbeat, within which all processes must have started

_PEER_ERROR_DELAY = 2.0  # seconds
_EXIT_DELAY = 1.0  # seconds for the others to print why they end, before they notice that this one has gone
_RESUME_HINT = ": start all processes again with the same --run.dir to resume"
# How the errors of failed collectives begin.
_COLLECTIVE_ERROR_PREFIXES = (
    "UNKNOWN: ",
    "UNAVAILABLE: ",
    "ABORTED: ",
    "CANCELLED: ",
    "DEADLINE_EXCEEDED: ",
    "INTERNAL: ",
)

_exit_lock = threading.Lock()


class PeerError(FmnistError):
    """Another process of the run has met an error that ends them all."""

    collective = True

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
    printed, timeout = native_output.redirect_to_file("fmnist_jax"), _STARTUP_TIMEOUT_FACTOR * parallel.heartbeat
    startup_message = (
        f"error: the processes of the run did not all start within {timeout} s, according to JAX "
        f"({printed}){_RESUME_HINT}"
    )
    native_output.on_abort(lambda: _exit_process(startup_message, 2))
    try:
        jax.distributed.initialize(
            parallel.coordinator,
            parallel.processes or None,
            None if parallel.process_id < 0 else parallel.process_id,
            heartbeat_timeout_seconds=_JAX_TIMEOUT_FACTOR * parallel.heartbeat,
            initialization_timeout=timeout,
        )
    except (ValueError, RuntimeError) as error:
        raise FmnistError(
            f"the processes of the run cannot be joined ({in_one_line(error, 300)}): start all of them with "
            f"the same --parallel.coordinator and --parallel.processes, each with its own --parallel.process-id"
        ) from error
    lost_message = f"error: another process of the run has gone, according to JAX ({printed}){_RESUME_HINT}"
    native_output.on_abort(lambda: _exit_process(lost_message, 2))


def is_first() -> bool:
    """Whether this process is the one that locks, prints and writes: the only one, or the first of several."""
    return jax.process_index() == 0


@contextmanager
def fail_together(parallel: ParallelConfig) -> Iterator[None]:
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
        if not (isinstance(error, FmnistError) and error.collective):
            _exit_with_error(error, heartbeat)
        raise
    finally:
        heartbeat.announce_exit()


def _watch_others(seconds: float) -> Heartbeat:
    heartbeat = Heartbeat(seconds, lambda what: _exit_process(f"error: {what}{_RESUME_HINT}", 2, heartbeat))
    names, port, password = allgather_json(heartbeat.listen() if is_first() else None)[0]

    def connect_peers() -> None:
        if is_first():
            heartbeat.accept(jax.process_count() - 1)
        else:
            heartbeat.connect(names, port, password, jax.process_index())

    try:
        connect_peers()
    except OSError as error:
        output.warn(
            f"warning: process {jax.process_index()} cannot watch the others ({error}): JAX will notice one that "
            f"falls silent, after {_JAX_TIMEOUT_FACTOR * seconds:g} s"
        )
    return heartbeat


def _exit_with_error(error: BaseException, heartbeat: Heartbeat) -> None:
    """Ends the process with the message of an error, which the others are told."""
    message, unexpected = in_one_line(error), None
    if isinstance(error, FmnistError):
        line, code = error.line, error.exit_code
    elif isinstance(error, XLA_ERRORS) and message.startswith(_COLLECTIVE_ERROR_PREFIXES):
        time.sleep(_PEER_ERROR_DELAY)  # meanwhile the heartbeat may end this process, naming the other one
        line, code = f"error: another process has gone ({message}){_RESUME_HINT}", 2
    else:
        line, code = "error: " + ": ".join(dict.fromkeys((type(error).__name__, message))), 1
        unexpected = error
    _exit_process(line, code, heartbeat, unexpected)


def _exit_process(
    line: str, code: int, heartbeat: Heartbeat | None = None, unexpected: BaseException | None = None
) -> None:
    """Ends the process with a line on standard error, and tells the others; of several calls only the first counts."""
    _exit_lock.acquire()
    if unexpected is not None:
        traceback.print_exception(unexpected)
    output.warn(line)
    if heartbeat is not None:
        heartbeat.announce_exit(line.partition(": ")[2].removesuffix(_RESUME_HINT))
        time.sleep(_EXIT_DELAY)
    os._exit(code)


def allgather_json(value: Any) -> list[Any]:
    """Gives every process the JSON values of all of them, in process order; all of them must call this."""
    if jax.process_count() == 1:
        return [value]
    text = json.dumps(value).encode()
    size = int(np.max(multihost_utils.process_allgather(np.int32(len(text)))))
    texts = multihost_utils.process_allgather(np.frombuffer(text.ljust(size), np.uint8))
    return [json.loads(bytes(row)) for row in np.asarray(texts)]


def run_on_all(work: Callable[[], T]) -> T:
    """Does work in every process; an `FmnistError` in one of them ends them all.

    Raises:
      FmnistError: raised by the work in this process.
      PeerError: the work in another process raised one.
    """
    if jax.process_count() == 1:
        return work()
    result, problem = _try(work)
    problems = allgather_json(None if problem is None else _error_to_dict(problem))
    if problem is not None:
        problem.collective = True
        raise problem
    for number, found in enumerate(problems):
        if found is not None:
            raise PeerError(found["label"], f"process {number}: {found['message']}", found["exit_code"])
    return result  # type: ignore[return-value]  # there is one where there is no problem


def run_on_first(work: Callable[[], T]) -> T:
    """Does work in the first process only, and gives its JSON value to all of them.

    Raises:
      FmnistError: raised by the work, in the first process.
      PeerError: the same, in the others.
    """
    if jax.process_count() == 1:
        return work()
    result = run_on_all(lambda: work() if is_first() else None)
    return allgather_json(result)[0]


def broadcast_snapshot(saved: Snapshot | None) -> Snapshot:
    """Gives every process the arrays of the first one, bit for bit; the others pass None."""
    if jax.process_count() == 1:
        assert saved is not None
        return saved
    header = saved and [{name: (leaf.dtype.name, leaf.shape) for name, leaf in saved.leaves.items()}, saved.keys]
    shapes, keys = allgather_json(header)[0]
    like = {name: np.empty(shape, dtype) for name, (dtype, shape) in shapes.items()}
    # As bytes, because the broadcast is a sum, which turns -0 into 0.
    sent = {name: np.frombuffer((saved.leaves if saved else like)[name].tobytes(), np.uint8) for name in like}
    received = multihost_utils.broadcast_one_to_all(sent)
    leaves = {
        name: np.frombuffer(np.asarray(received[name]).tobytes(), leaf.dtype).reshape(leaf.shape)
        for name, leaf in like.items()
    }
    return Snapshot(leaves, keys)


def _try(work: Callable[[], T]) -> tuple[T | None, FmnistError | None]:
    try:
        return work(), None
    except FmnistError as error:
        return None, error


def _error_to_dict(error: FmnistError) -> Mapping[str, Any]:
    return {"label": error.label, "message": str(error), "exit_code": error.exit_code}
