"""A run's numbers and figures for TensorBoard, through tensorboardX, which needs no TensorFlow."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_jax.errors import ConfigError
from fmnist_jax.runs.display import Display

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from tensorboardX import SummaryWriter

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
    if util.find_spec("tensorboardX") is None:
        raise ConfigError("--run.tensorboard needs tensorboardX: pip install tensorboardX")


class _Writing:
    """A `Display` that writes each metrics line to TensorBoard and hands it on."""

    def __init__(self, writer: "SummaryWriter", shown: Display) -> None:
        self._writer = writer
        self._shown = shown

    def update(self, record: Mapping[str, Any]) -> None:
        for name, tag in _TAGS.items():
            if name in record:
                self._writer.add_scalar(tag, record[name], record["step"])
        self._shown.update(record)


@contextmanager
def beside(shown: Display, directory: Path, step: int) -> Iterator[Display]:
    """Has the metrics lines of a run written to `<directory>/tensorboard`, besides being shown.

    Args:
      shown: takes every line as well.
      directory: of the run.
      step: steps already taken; what an earlier session wrote of later ones is dropped.
    """
    with _open(directory, step) as writer:
        yield _Writing(writer, shown)


def write_figures(directory: Path, step: int, figures: Mapping[str, "Figure"]) -> None:
    """Writes figures by name, as of the last step."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with _open(directory, step) as writer:
        for name, figure in figures.items():
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            writer.add_image(name, np.asarray(canvas.buffer_rgba())[..., :3], step, dataformats="HWC")


def _open(directory: Path, step: int) -> "SummaryWriter":
    from tensorboardX import SummaryWriter  # an extra

    # TensorBoard reads the files in the order of their names, which tensorboardX begins with the time, and passes over
    # what earlier ones say of `purge_step` and later steps. Each second it writes out what it has been given, so that
    # little of what a killed run had logged is missing.
    return SummaryWriter(
        str(directory / "tensorboard"), purge_step=step + 1, filename_suffix=f".{step:010d}", flush_secs=1
    )
