"""Where what JAX compiles is kept, and where not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmnist_jax.commands.executables import enable_compilation_cache

_VARIABLES = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "environ", {key: os.environ[key] for key in os.environ if key not in _VARIABLES})
    os.environ["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("made", ["", ".", "fmnist_jax/executables"])
def test_executables_are_kept_in_the_users_cache(cache_home: Path, made: str) -> None:
    if made:
        (cache_home / made).mkdir(parents=True)
    enable_compilation_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(cache_home / "fmnist_jax" / "executables")
    assert float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]) < 1


def test_a_place_that_the_user_chose_for_executables_stays(cache_home: Path) -> None:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = "/elsewhere"
    enable_compilation_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"
    assert not cache_home.exists()


@pytest.mark.parametrize("chosen", [None, "/elsewhere"])
def test_executables_of_a_script_that_has_imported_jax_are_kept_too(cache_home: Path, chosen: str | None) -> None:
    script = (
        "import jax; from fmnist_jax.commands.executables import enable_compilation_cache\n"
        f"if {chosen!r}: jax.config.update('jax_compilation_cache_dir', {chosen!r})\n"
        "enable_compilation_cache()\n"
        "print(jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    kept = f"{cache_home / 'fmnist_jax' / 'executables'} 0.2\n"
    assert done.stdout == (kept if chosen is None else f"{chosen} 1.0\n")


def test_without_a_cache_that_can_be_written_nothing_is_kept(cache_home: Path) -> None:
    os.environ["XDG_CACHE_HOME"] = str(cache_home / "no" / "such" / "place")
    enable_compilation_cache()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_what_somebody_else_has_made_or_may_not_be_searched_is_left_alone(
    cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may do all, so that the answers of the operating system are stood in for."""
    (cache_home / "fmnist_jax").mkdir(parents=True)
    closed = cache_home / "fmnist_jax"
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != closed)
    enable_compilation_cache()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ

    def unsearchable(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", unsearchable)
    monkeypatch.setattr(os, "access", lambda *_: False)
    enable_compilation_cache()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
