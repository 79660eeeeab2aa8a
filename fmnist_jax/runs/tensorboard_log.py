"""A run's numbers and figures for TensorBoard, through tensorboardX, which needs no TensorFlow."""

import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_jax.errors import ConfigError
from fmnist_jax.runs.directory import RESUME_HINT
from fmnist_jax.runs.display import Display
from fmnist_jax.system.packages import is_installed
from fmnist_jax.system.storage import convert_write_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TAGS: Mapping[str, str] = {
    "train_loss": "loss/training_objective",
    "val_loss": "loss/validation",
    "train_accuracy": "accuracy/training",
    "val_accuracy": "accuracy/validation",
    "learning_rate": "learning_rate",
    "images_per_second": "images_per_second",
}


def refuse_without_writer() -> None:
    """Checks that tensorboardX is installed.

    Raises:
      ConfigError: it is not.
    """
    if not is_installed("tensorboardX"):
        raise ConfigError("--run.tensorboard needs tensorboardX: pip install tensorboardX")


AddSummary = Callable[[Any, int], None]
"""`add(summary, step)`: appends a `Summary` of a step."""


class _TensorBoardDisplay:
    """A `Display` that writes each metrics line for TensorBoard and passes it on."""

    def __init__(self, add: AddSummary, shown: Display) -> None:
        self._add = add
        self._shown = shown

    def update(self, record: Mapping[str, Any]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=record[name]) for name, tag in _TAGS.items() if name in record]
        self._add(Summary(value=values), record["step"])
        self._shown.update(record)


@contextmanager
def tee_to_tensorboard(display: Display, directory: Path, step: int) -> Iterator[Display]:
    """Writes the metrics lines of a run to `<directory>/tensorboard`, besides showing them.

    Args:
      display: also receives every line.
      directory: the run directory.
      step: steps already taken; what an earlier session wrote about later ones is dropped.

    Raises:
      FmnistError: they cannot be written.
    """
    with _events(directory / "tensorboard", step) as add:
        yield _TensorBoardDisplay(add, display)


def write_figures(directory: Path, step: int, figures: Mapping[str, "Figure"]) -> None:
    """Writes figures under their names, as of a step.

    Raises:
      FmnistError: they cannot be written.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from tensorboardX import summary

    with _events(directory / "tensorboard", step) as add:
        for name, figure in figures.items():
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            add(summary.image(name, np.asarray(canvas.buffer_rgba())[..., :3], dataformats="HWC"), step)


@contextmanager
def _events(folder: Path, step: int) -> Iterator[AddSummary]:
    """Opens a new event file, which makes TensorBoard discard the events of later steps in earlier files.

    Written here, because failures in the thread of tensorboardX's `SummaryWriter` go unreported, and its queue then
    fills until the run hangs.
    """
    from tensorboardX.proto.event_pb2 import Event, SessionLog  # an optional dependency

    with convert_write_errors(folder, then=RESUME_HINT):
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard recognises the files by how their names begin, and reads them in the order of what follows.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{step:010d}"
        file = (folder / name).open("wb")

    def write(**contents: Any) -> None:
        with convert_write_errors(folder, then=RESUME_HINT):
            file.write(_tfrecord(Event(wall_time=time.time(), **contents).SerializeToString()))
            file.flush()

    try:
        write(file_version="brain.Event:2")
        write(step=step + 1, session_log=SessionLog(status=SessionLog.START))
        yield lambda summary, at: write(step=at, summary=summary)
    finally:
        with suppress(OSError):  # a failed write has been reported already
            file.close()


def _tfrecord(data: bytes) -> bytes:
    """A record in TensorFlow's file format: its length and its data, each followed by a checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    return b"".join(part + struct.pack("<I", masked_crc32c(part)) for part in (length, data))
