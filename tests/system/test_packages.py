"""What counts as installed."""

from pathlib import Path

import pytest

from fmnist_jax.system.packages import is_installed


def test_a_package_is_installed_and_a_folder_of_a_name_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnx_of_mine").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed("jax")
    assert not is_installed("onnx_of_mine")
    assert not is_installed("no_such_package")
