"""Times this project under several Pythons alternately: `python -m experiments.benchmark.versions PYTHON PYTHON ...`.

Each Python uses the JAX that is installed for it. Prints a Markdown table of images/s in training and evaluation, and
writes all measurements to `versions.json`. `make versions` creates the environments first.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from experiments.benchmark import jax_side, tables
from experiments.benchmark.run import measure_alternately, refuse_lost_rates
from experiments.records import prepare_output, read_json, write_json
from experiments.script import refuse_too_few, run_script
from fmnist_jax import PRESETS, Config, DataConfig, FmnistError, keep_freed_memory

_NETWORKS: Mapping[str, tuple[str, jax_side.Network]] = {
    "fast": ("fast", "preset"),
    "notebook": ("fast", "notebook"),
    "standard": ("standard", "preset"),
}
"""The preset whose recipe is used, and the network that it trains."""

_REMEDY = "give an interpreter with this project and its benchmarks installed"


@dataclass(frozen=True)
class Arguments:
    """Times this project under several Pythons alternately."""

    pythons: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PYTHON...")]
    """Interpreters, each with this project installed; rates are compared with those of the first."""
    rounds: int = 4
    """How often each rate is measured."""
    steps: int = 20
    """Training steps in each measurement."""
    out: Path = Path(__file__).parent / "versions.json"
    """File to write the measurements to."""


class Worker:
    """An interpreter that measures on request: one line of JSON in, one out."""

    def __init__(self, python: str) -> None:
        """Starts the interpreter.

        Raises:
          FmnistError: it cannot be started.
        """
        command = [python, "-c", "from experiments.benchmark import versions; versions.serve()"]
        self._python = python
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise FmnistError(f"{python} cannot be started ({error.strerror}): {_REMEDY}") from error

    def __enter__(self) -> "Worker":
        """Returns itself; the end of the block ends the interpreter."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the interpreter."""
        self._process.communicate()

    def __call__(self, *request: Any) -> Any:
        """Calls `measure` there and waits for the result.

        Raises:
          FmnistError: it does not answer; what it prints on standard error says why.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            raise FmnistError(f"{self._python} does not answer as this project does: {_REMEDY}") from error


def serve() -> None:
    """Answers the lines of standard input."""
    keep_freed_memory()
    for line in sys.stdin:
        print(json.dumps(measure(*json.loads(line))), flush=True)


def measure(quantity: str, network: str = "fast", steps: int = 1) -> Any:
    """The `origin` of this interpreter's measurements, or images/s of a network in `training` or `evaluation`."""
    if quantity == "origin":
        return jax_side.measurement_origin()
    preset, network_kind = _NETWORKS[network]
    config = _synthetic(PRESETS[preset])
    if quantity == "evaluation":
        return jax_side.eval_rate(config, network_kind, False)
    return jax_side.train_rate(config, network_kind, False, steps)


def _synthetic(config: Config) -> Config:
    """On synthetic data with as many test images as Fashion-MNIST: speed does not depend on the pixels."""
    return replace(config, data=DataConfig(name="synthetic", synthetic_test_size=10_000, validation_size=0))


def environment_name(versions: Mapping[str, str]) -> str:
    """The name of an interpreter with these versions in tables."""
    return f"jax {versions['jax']}, Python {versions['python'].rpartition('.')[0]}"


def rows(rates: Mapping[str, Mapping[str, Sequence[float]]]) -> list[tuple[str, ...]]:
    """A row for each rate: its name, each side's median and range, and for all but the first its ratio to the first.

    Args:
      rates: by what is measured and by side.
    """
    return [
        (title, *(cell for index, values in enumerate(sides.values()) for cell in _cells(index, values, first)))
        for title, sides in rates.items()
        for first in [next(iter(sides.values()))]
    ]


def _cells(index: int, values: Sequence[float], first: Sequence[float]) -> list[str]:
    ratios = [value / reference for value, reference in zip(values, first, strict=True)]
    return [tables.median_and_range(values), tables.median_and_range(ratios, "{:.2f}")][: 2 if index else 1]


def main(arguments: Arguments) -> None:
    """Measures and prints."""
    if not arguments.pythons:
        raise FmnistError("no interpreter is named: give several, each with this project installed")
    refuse_too_few(arguments)
    prepare_output(arguments.out)
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(python)) for python in arguments.pythons]
        origins = {environment_name(origin["versions"]): origin for origin in (worker("origin") for worker in workers)}
        if len(origins) < len(workers):
            raise FmnistError(f"several interpreters have the same versions ({', '.join(origins)}): name each but once")
        if arguments.out.exists():
            recorded = read_json(arguments.out)["rates"]
            refuse_lost_rates(arguments.out, recorded, tuple(_NETWORKS), arguments.rounds, has_torch=False)
        rates = {
            f"{phase}, {network} network": measure_alternately(
                {
                    name: partial(worker, phase, network, arguments.steps)
                    for name, worker in zip(origins, workers, strict=True)
                },
                arguments.rounds,
            )
            for phase in ("training", "evaluation")
            for network in _NETWORKS
        }
    write_json(arguments.out, {"origins": origins, "rates": rates})
    first, *others = origins
    other_headings = [heading for name in others for heading in (name, "relative to the first")]
    tables.print_table(Console(width=180), ["images/s, median (range)", first, *other_headings], rows(rates))


if __name__ == "__main__":
    run_script(main, Arguments)
