"""Where JAX's persistent compilation cache is placed, and when it stays off."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from fmnist_jax.commands.executables import enable_compilation_cache, explain_damaged_cache

_VARIABLES = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "environ", {key: os.environ[key] for key in os.environ if key not in _VARIABLES})
    os.environ["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("existing", ["", ".", "fmnist_jax/executables"])
def test_compilation_cache_is_placed_in_the_user_cache_directory(cache_home: Path, existing: str) -> None:
    if existing:
        (cache_home / existing).mkdir(parents=True)
    enable_compilation_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(cache_home / "fmnist_jax" / "executables")
    assert float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]) < 1


def test_compilation_cache_dir_set_by_the_user_is_kept(cache_home: Path) -> None:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = "/elsewhere"
    enable_compilation_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"
    assert not cache_home.exists()


@pytest.mark.parametrize("configured_dir", [None, "/elsewhere"])
def test_compilation_cache_is_configured_even_if_jax_is_already_imported(
    cache_home: Path, configured_dir: str | None
) -> None:
    script = (
        "import jax; from fmnist_jax.commands.executables import enable_compilation_cache\n"
        f"if {configured_dir!r}: jax.config.update('jax_compilation_cache_dir', {configured_dir!r})\n"
        "enable_compilation_cache()\n"
        "print(jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)"
    )
    completed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    default_output = f"{cache_home / 'fmnist_jax' / 'executables'} 0.2\n"
    assert completed.stdout == (default_output if configured_dir is None else f"{configured_dir} 1.0\n")


def test_compilation_cache_stays_off_without_a_writable_cache_directory(cache_home: Path) -> None:
    os.environ["XDG_CACHE_HOME"] = str(cache_home / "no" / "such" / "place")
    enable_compilation_cache()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_compilation_cache_stays_off_if_the_directory_is_unwritable_or_unsearchable(
    cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root has all permissions, so the answers of the operating system are mocked."""
    (cache_home / "fmnist_jax").mkdir(parents=True)
    unwritable = cache_home / "fmnist_jax"
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != unwritable)
    enable_compilation_cache()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ

    def deny_search(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", deny_search)
    monkeypatch.setattr(os, "access", lambda *_: False)
    enable_compilation_cache()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_damaged_cached_program_is_explained_and_other_warnings_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: shown.append(str(message)))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/cached")
    explain_damaged_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        for name in ("jit_f", "jit_g"):
            warnings.warn(f"Error reading persistent compilation cache entry for '{name}': EOF: end", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert shown == ["something else"]
    error = capsys.readouterr().err
    assert error.startswith("note: /cached holds a program that cannot be read (EOF: end) and is compiled at every")
    assert "delete that folder" in error
    assert len(error.splitlines()) == 1
