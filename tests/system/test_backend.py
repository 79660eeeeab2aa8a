"""The errors for an environment or a machine in which JAX does not start."""

import os
import subprocess
import sys

import jax
import pytest

from fmnist_jax.errors import FmnistError
from fmnist_jax.system import backend

_SCRIPT = """
from fmnist_jax.errors import FmnistError
from fmnist_jax.system import backend
try:
    backend.start()
    backend.refuse_without_compilation()
except FmnistError as error:
    print(error)
else:
    print("started")
"""


def start_in_subprocess(**variables: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    completed = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True, env=inherited | variables
    )
    return completed.stdout.removesuffix("\n")


def test_jax_starts_on_the_cpu() -> None:
    assert start_in_subprocess(JAX_PLATFORMS="cpu") == "started"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("JAX_PLATFORMS", "gpu9", ["gpu9", "JAX_PLATFORMS is gpu9", "unset it", "cpu"]),
        ("JAX_PLATFORMS", "metal", ["JAX_PLATFORMS is metal", "unset it"]),
        ("JAX_PLATFORM_NAME", "abacus", ["JAX_PLATFORM_NAME is abacus", "unset it"]),
        ("JAX_ENABLE_X64", "perhaps", ["'perhaps'", "'JAX_ENABLE_X64'", "fix or unset it"]),
        ("JAX_DEFAULT_MATMUL_PRECISION", "wow", ["wow", "jax_default_matmul_precision", "fix or unset it"]),
        ("JAX_DISABLE_JIT", "true", ["JAX_DISABLE_JIT is set", "unset it"]),
    ],
)
def test_invalid_environment_variable_is_named_in_one_line(variable: str, value: str, words: list[str]) -> None:
    message = start_in_subprocess(**{variable: value})
    assert len(message.splitlines()) == 1
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError("CUDA driver version is insufficient for CUDA runtime version"),
            "driver version is insufficient",
        ),
        (RuntimeError("Unable to initialize backend 'cuda':\n  no\n  device"), "backend 'cuda': no device)"),
        (AssertionError(), "it gives no reason"),
    ],
)
def test_jaxs_own_reason_is_reported_in_one_line(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(FmnistError, match="set JAX_PLATFORMS=cpu") as exc_info:
        backend.start()
    assert reason in str(exc_info.value)
    assert len(str(exc_info.value).splitlines()) == 1
