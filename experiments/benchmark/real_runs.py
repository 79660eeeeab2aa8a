"""What the benchmark measures on real runs of the training command, each in its own process."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from fmnist_jax import Config

_COMPILED = re.compile(r"Finished XLA compilation of jit\((\w+)\)")
_FUNCTIONS = ("chunk", "evaluate", "predict")


class Run(NamedTuple):
    """One run of the command, to its end or to the signal that stopped it."""

    seconds_to_first_step: float
    """From starting the process to dispatching the first chunk."""
    peak_bytes: int
    """Largest resident memory of the process."""
    compilations: dict[str, int]
    """How often each function of the loop was compiled."""
    seconds_per_step: float
    """In the loop, logging and saving included: the median over pairs of consecutive log lines."""


def train_arguments(config: Config, directory: Path, epochs: int) -> list[str]:
    """The command line of a run of a configuration: its preset, with its data, network size, dtype and batch size."""
    data = [
        argument
        for field in fields(config.data)
        if (value := getattr(config.data, field.name)) != field.default
        for argument in (f"--data.{field.name.replace('_', '-')}", str(value))
    ]
    overrides = ["--model.dtype", config.model.dtype, "--train.batch-size", str(config.train.batch_size)]
    for name in ("widths", "depths"):
        overrides += [f"--model.{name}", *map(str, getattr(config.model, name))]
    run = ["--run.dir", str(directory), "--run.progress", "plain", "--run.checkpoint-every", "100"]
    return ["--preset", config.preset, *data, *overrides, "--train.epochs", str(epochs), *run]


def run(argv: list[str], cache: Path, stop_after: int | None = None) -> Run:
    """Runs the command.

    Args:
      argv: its arguments.
      cache: where JAX keeps executables; an empty folder makes a cold start.
      stop_after: the number of log lines after which to send it SIGTERM, upon which it saves and stops.

    Raises:
      RuntimeError: it failed, or ended before it was stopped.
    """
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_LOG_COMPILES": "1"}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "fmnist_jax.train", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()))
    reader.start()
    seconds_to_first_step, log_lines = float("nan"), 0
    for line in process.stdout:
        if "compiled in" in line:
            seconds_to_first_step = time.perf_counter() - start
        if "images/s" in line:
            log_lines += 1
            if log_lines == stop_after:
                process.send_signal(signal.SIGTERM)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    process.stdout.close()
    process.stderr.close()
    if process.returncode != (0 if stop_after is None else 128 + signal.SIGTERM):
        raise RuntimeError(
            f"the run exited with {process.returncode} after {log_lines} log lines: {''.join(errors[-5:])}"
        )
    compilations = Counter(match[1] for line in errors if (match := _COMPILED.search(line)))
    seconds_per_step = _seconds_per_step(Path(argv[argv.index("--run.dir") + 1]))
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(
        seconds_to_first_step,
        usage.ru_maxrss * unit,
        {name: compilations[name] for name in _FUNCTIONS},
        seconds_per_step,
    )


def _seconds_per_step(directory: Path) -> float:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return statistics.median(
        (current["elapsed_seconds"] - previous["elapsed_seconds"]) / (current["step"] - previous["step"])
        for previous, current in pairwise(records)
        if "train_loss" in current
    )
