"""Which packages count as installed."""

from pathlib import Path

import pytest

from fmnist_jax.system.packages import is_installed


def test_is_installed_accepts_a_package_but_not_a_bare_folder_or_unknown_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx_of_mine").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed("jax")
    assert not is_installed("onnx_of_mine")
    assert not is_installed("no_such_package")
