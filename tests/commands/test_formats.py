"""Which files an export writes: what is asked for, or all that can be."""

import pytest

from fmnist_jax.commands import formats
from fmnist_jax.errors import ConfigError


@pytest.fixture
def without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "is_installed", lambda name: name != "onnx")


@pytest.mark.usefixtures("without_onnx")
def test_what_cannot_be_written_is_left_out_with_a_line() -> None:
    choice = formats.choose([])
    assert choice.formats == ("jaxexport", "safetensors")
    assert choice.left_out == ("model.onnx needs onnx: pip install onnx",)


@pytest.mark.usefixtures("without_onnx")
def test_what_is_asked_for_is_chosen_once_and_refused_where_it_cannot_be_written() -> None:
    assert formats.choose(["safetensors", "jaxexport", "safetensors"]) == (("safetensors", "jaxexport"), ())
    with pytest.raises(ConfigError, match=r"^model\.onnx needs onnx: pip install onnx$"):
        formats.choose(["jaxexport", "onnx"])
