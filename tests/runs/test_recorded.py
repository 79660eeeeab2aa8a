"""Reading the predictions that a run has saved."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from fmnist_jax.errors import FmnistError
from fmnist_jax.runs.recorded import PREDICTIONS_FILE, read_predictions


def test_read_predictions_returns_the_arrays_once_the_run_has_finished(tmp_path: Path) -> None:
    assert read_predictions(tmp_path) is None
    arrays = {"logits": np.ones((2, 3), np.float32), "labels": np.arange(2), "mirrored_logits": np.zeros((2, 3))}
    np.savez(tmp_path / PREDICTIONS_FILE, **arrays)  # type: ignore[arg-type]
    assert read_predictions(tmp_path) is None
    (tmp_path / "summary.json").write_text("{}")
    predictions = read_predictions(tmp_path)
    assert predictions is not None
    assert predictions.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(predictions[name], array)


def test_damaged_predictions_file_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    np.savez(tmp_path / PREDICTIONS_FILE, logits=np.ones((2, 3)))
    with pytest.raises(FmnistError, match=r"is damaged \(it has no labels\): restore it, or delete it"):
        read_predictions(tmp_path)
    (tmp_path / PREDICTIONS_FILE).write_bytes(b"PK")
    with pytest.raises(FmnistError, match="is damaged"):
        read_predictions(tmp_path)
    with zipfile.ZipFile(tmp_path / PREDICTIONS_FILE, "w") as archive:
        archive.writestr("logits", "not an array")
        archive.writestr("labels", "nor this")
    with pytest.raises(FmnistError, match=r"is damaged \(logits is not a NumPy array\)"):
        read_predictions(tmp_path)


def test_encrypted_or_unsupported_predictions_file_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    path = tmp_path / PREDICTIONS_FILE
    np.savez(path, logits=np.ones((2, 3)), labels=np.arange(2))
    intact = path.read_bytes()
    for flags in (0x01, 0x20):  # of the first entry: encrypted, patched
        damaged = bytearray(intact)
        damaged[6] = damaged[intact.index(b"PK\x01\x02") + 8] = flags
        path.write_bytes(damaged)
        with pytest.raises(FmnistError, match=r"predictions\.npz is damaged .*: restore it, or delete it"):
            read_predictions(tmp_path)
