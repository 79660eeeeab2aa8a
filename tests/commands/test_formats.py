"""Which files an export writes: the requested formats, or all available ones."""

import pytest

from fmnist_jax.commands import formats
from fmnist_jax.errors import ConfigError


@pytest.fixture
def without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "is_installed", lambda name: name != "onnx")


@pytest.mark.usefixtures("without_onnx")
def test_unavailable_formats_are_left_out_by_default_with_an_install_hint() -> None:
    choice = formats.choose([])
    assert choice.formats == ("jaxexport", "safetensors")
    assert choice.left_out == ("model.onnx needs onnx: pip install onnx",)


@pytest.mark.usefixtures("without_onnx")
def test_requested_formats_are_deduplicated_and_rejected_if_unavailable() -> None:
    assert formats.choose(["safetensors", "jaxexport", "safetensors"]) == (("safetensors", "jaxexport"), ())
    with pytest.raises(ConfigError, match=r"^model\.onnx needs onnx: pip install onnx$"):
        formats.choose(["jaxexport", "onnx"])
