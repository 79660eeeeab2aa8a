"""The files that an export writes and the packages that they need; nothing here imports JAX."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from fmnist_jax.errors import ConfigError
from fmnist_jax.system.packages import is_installed

Format = Literal["jaxexport", "safetensors", "onnx"]


class FormatFile(NamedTuple):
    """A file of an export."""

    file: str
    package: str | None
    """The optional package that writes it, if any."""


FORMAT_FILES: Mapping[Format, FormatFile] = {
    "jaxexport": FormatFile("model.jaxexport", None),
    "safetensors": FormatFile("model.safetensors", "safetensors"),
    "onnx": FormatFile("model.onnx", "onnx"),
}


class Choice(NamedTuple):
    """The formats to write."""

    formats: tuple[Format, ...]
    left_out: tuple[str, ...]
    """A line for each other file, saying which package it needs."""


def choose(requested: Sequence[Format]) -> Choice:
    """Chooses the requested formats or, if there are none, all that can be written.

    Raises:
      ConfigError: a requested one needs a package that is not installed.
    """
    needs = {name: _missing_package_message(format_file) for name, format_file in FORMAT_FILES.items()}
    if unavailable := [needs[name] for name in dict.fromkeys(requested) if needs[name]]:
        raise ConfigError("; ".join(map(str, unavailable)))
    chosen = requested or [name for name in FORMAT_FILES if needs[name] is None]
    return Choice(tuple(dict.fromkeys(chosen)), tuple(need for name, need in needs.items() if need and not requested))


def _missing_package_message(format_file: FormatFile) -> str | None:
    if format_file.package is None or is_installed(format_file.package):
        return None
    return f"{format_file.file} needs {format_file.package}: pip install {format_file.package}"
