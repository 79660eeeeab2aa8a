"""The progress of a run on the screen: a live bar or plain lines."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fmnist_jax.analysis.members import mean_std
from fmnist_jax.system.output import BestEffortStream


class Display(Protocol):
    """Shows training as it goes."""

    def update(self, record: Mapping[str, Any]) -> None:
        """Shows one metrics line."""
        ...


class NullDisplay:
    """Shows nothing, because another process does."""

    def update(self, record: Mapping[str, Any]) -> None:
        """Ignores a metrics line."""


class _PlainDisplay:
    def __init__(self, screen: BestEffortStream) -> None:
        self._screen = screen

    def update(self, record: Mapping[str, Any]) -> None:
        print(format_record(record), file=self._screen, flush=True)


class _BarDisplay:
    def __init__(self, progress: Progress, total_steps: int, start_step: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total_steps, completed=start_step)

    def update(self, record: Mapping[str, Any]) -> None:
        if "val_accuracy" in record:
            self._progress.console.print(format_record(record), highlight=False)
        else:
            self._progress.update(self._task, completed=record["step"], description=_format_training(record))


@contextmanager
def display(style: Literal["auto", "bar", "plain"], total_steps: int, start_step: int) -> Iterator[Display]:
    """Opens a live bar (`auto`: only on a terminal) or plain lines for a run of `total_steps`.

    If the screen can no longer be written to, the run continues without it.
    """
    screen = BestEffortStream(sys.stdout)
    console = Console(file=cast(TextIO, screen))
    if style == "plain" or (style == "auto" and not (screen.isatty() and not console.is_dumb_terminal)):
        yield _PlainDisplay(screen)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        console.show_cursor()  # `Progress` hides it, and a killed process could not restore it
        yield _BarDisplay(progress, total_steps, start_step)


def format_record(record: Mapping[str, Any]) -> str:
    """Formats a metrics line for a reader."""
    position = f"epoch {record['epoch']:6.2f}  step {record['step']:6d}"
    if "val_accuracy" in record:
        return f"{position}  validation: accuracy {_accuracy(record, 'val_accuracy')}  loss {record['val_loss']:.4f}"
    return f"{position}  {_format_training(record)}"


def _format_training(record: Mapping[str, Any]) -> str:
    return (
        f"loss {record['train_loss']:.4f}  accuracy {_accuracy(record, 'train_accuracy')}  "
        f"rate {record['learning_rate']:.2e}  {record['images_per_second']:,.0f} images/s"
    )


def _accuracy(record: Mapping[str, Any], name: str) -> str:
    """An accuracy; for a population, the mean and the standard deviation (in percentage points) over its members."""
    of_members = record.get("members", {}).get(name, ())
    deviation = f" ± {100 * mean_std(of_members).deviation:.2f}" if len(of_members) > 1 else ""
    return f"{record[name]:.2%}{deviation}"
