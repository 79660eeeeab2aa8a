"""Runs the training command with a slowed writer or loop, so that a kill can be aimed at either.

`python -m tests.faults.slowed SAVE_DELAY LOG_DELAY [arguments of fmnist_jax.train]`, both delays in seconds.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

from orbax.checkpoint._src.path import atomicity

from fmnist_jax import train
from fmnist_jax.commands import cli
from fmnist_jax.runs import directory, results
from tests.undrawn import RESULTS_STUBS


def _slow_down(save_delay: float, log_delay: float) -> None:
    finalize, append, rmtree = (
        atomicity.AtomicRenameTemporaryPath.finalize,
        directory.RunDirectory.append,
        shutil.rmtree,
    )

    async def slow_finalize(self: Any, *args: Any, **kwargs: Any) -> None:
        time.sleep(save_delay)
        await finalize(self, *args, **kwargs)
        time.sleep(save_delay)

    def slow_append(self: directory.RunDirectory, record: Mapping[str, Any]) -> None:
        time.sleep(log_delay)
        append(self, record)

    def slow_rmtree(*args: Any, **kwargs: Any) -> None:
        time.sleep(save_delay / 2)
        rmtree(*args, **kwargs)

    atomicity.AtomicRenameTemporaryPath.finalize = slow_finalize
    directory.RunDirectory.append = slow_append  # type: ignore[method-assign]
    shutil.rmtree = slow_rmtree  # type: ignore[assignment]


if __name__ == "__main__":
    if "TESTS_LEAVE_UNDRAWN" in os.environ:
        vars(results).update(RESULTS_STUBS)
    _slow_down(float(sys.argv[1]), float(sys.argv[2]))
    del sys.argv[1:3]
    # As in a foreground shell: these tests may run in the background, where SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.run_command(train.main)
