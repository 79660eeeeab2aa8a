"""What an environment or a machine that JAX does not start in is told."""

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


def started(**variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True, env=kept | variables
    )
    return done.stdout.removesuffix("\n")


def test_jax_starts_on_a_processor() -> None:
    assert started(JAX_PLATFORMS="cpu") == "started"


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
def test_what_the_environment_asks_for_in_vain_is_named_in_one_line(
    variable: str, value: str, words: list[str]
) -> None:
    message = started(**{variable: value})
    assert len(message.splitlines()) == 1
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("CUDA driver version is insufficient for CUDA runtime version"),
            "driver version is insufficient",
        ),
        (RuntimeError("Unable to initialize backend 'cuda':\n  no\n  device"), "backend 'cuda': no device)"),
        (AssertionError(), "it gives no reason"),
    ],
)
def test_jax_s_own_reason_is_told_in_one_line(error: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(FmnistError, match="set JAX_PLATFORMS=cpu") as caught:
        backend.start()
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
