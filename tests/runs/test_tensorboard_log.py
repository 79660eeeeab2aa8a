"""What TensorBoard's own reader finds in the log of a run, and of a resumed one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_jax import train
from fmnist_jax.config.schema import Config, RunConfig
from fmnist_jax.errors import ConfigError, FmnistError
from fmnist_jax.runs import tensorboard_log
from fmnist_jax.views import scores


class _RecordingDisplay:
    def __init__(self) -> None:
        self.records: list[Any] = []

    def update(self, record: Any) -> None:
        self.records.append(record)


def _training_record(step: int, loss: float) -> dict[str, Any]:
    return {
        **{"step": step, "epoch": step / 10, "elapsed_seconds": 1.0},
        **{"train_loss": loss, "train_accuracy": 0.5, "learning_rate": 0.1, "images_per_second": 100.0},
    }


def _write(directory: Path, start: int, records: list[dict[str, Any]]) -> _RecordingDisplay:
    display = _RecordingDisplay()
    with tensorboard_log.tee_to_tensorboard(display, directory, start) as tee:
        for record in records:
            tee.update(record)
    return display


def _read(directory: Path) -> Any:
    # Imported late: without TensorFlow, importing it warns once.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def _scalars(directory: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in _read(directory).Scalars(tag)]


def test_every_metric_of_a_record_is_a_scalar_at_its_step(tmp_path: Path) -> None:
    evaluation = {"step": 20, "epoch": 2.0, "val_loss": 0.25, "val_accuracy": 0.75, "elapsed_seconds": 3.0}
    records = [_training_record(10, 2.0), _training_record(20, 1.0), evaluation]
    assert _write(tmp_path, 0, records).records == records
    assert _scalars(tmp_path, "loss/training_objective") == [(10, 2.0), (20, 1.0)]
    assert _scalars(tmp_path, "accuracy/training") == [(10, 0.5), (20, 0.5)]
    assert _scalars(tmp_path, "learning_rate") == [(10, np.float32(0.1).item()), (20, np.float32(0.1).item())]
    assert _scalars(tmp_path, "images_per_second") == [(10, 100.0), (20, 100.0)]
    assert _scalars(tmp_path, "loss/validation") == [(20, 0.25)]
    assert _scalars(tmp_path, "accuracy/validation") == [(20, 0.75)]


def test_resumed_run_has_no_duplicate_steps_even_within_a_second(tmp_path: Path) -> None:
    _write(tmp_path, 0, [_training_record(step, 1.0) for step in (10, 20, 30)])
    _write(tmp_path, 20, [_training_record(step, 2.0) for step in (30, 40)])
    assert _scalars(tmp_path, "loss/training_objective") == [(10, 1.0), (20, 1.0), (30, 2.0), (40, 2.0)]


def test_figures_are_written_as_images(tmp_path: Path) -> None:
    _write(tmp_path, 0, [_training_record(10, 2.0)])
    tensorboard_log.write_figures(tmp_path, 10, {"curves": scores.curves([_training_record(10, 2.0)])})
    (image,) = _read(tmp_path).Images("curves")
    assert image.step == 10
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert (image.width, image.height) == (1100, 360)
    assert _scalars(tmp_path, "loss/training_objective") == [(10, 2.0)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_raises_an_error_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As for all other files of a run; the thread of tensorboardX's own writer would die silently."""
    with tensorboard_log.tee_to_tensorboard(_RecordingDisplay(), tmp_path, 0) as tee:
        tee.update(_training_record(10, 2.0))
        assert _scalars(tmp_path, "loss/training_objective") == [(10, 2.0)]  # while the file is still open
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda *_: open("/dev/full", "wb"))  # noqa: PTH123, SIM115
        with pytest.raises(FmnistError, match=r"cannot write .*tensorboard \(No space left on device\): free space"):
            _write(tmp_path, 10, [_training_record(20, 1.0)])


def test_run_without_tensorboardx_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tensorboard_log, "is_installed", lambda name: name != "tensorboardX")
    with pytest.raises(ConfigError, match=r"^--run\.tensorboard needs tensorboardX: pip install tensorboardX$"):
        train.run(Config(run=RunConfig(dir=tmp_path / "run", tensorboard=True)))
    assert list(tmp_path.iterdir()) == []
