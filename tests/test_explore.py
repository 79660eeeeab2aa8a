"""The command line of `explore`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fmnist_jax
from fmnist_jax import explore as command
from fmnist_jax.errors import FmnistError

# Runs the command, and then prints on standard error whether it imported JAX.
SPY = """
import atexit, runpy, sys
atexit.register(lambda: print("jax" in sys.modules, file=sys.stderr))
runpy.run_module("fmnist_jax.explore", run_name="__main__", alter_sys=True)
"""
SMALL_DATA = ["--data.name", "synthetic", "--data.synthetic-train-size", "60", "--data.validation-size", "0"]


def run_explore(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1]), "COLUMNS": "100"}
    command = [sys.executable, "-c", SPY, *argv]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)


def test_default_out_is_under_the_working_directory(tmp_path: Path) -> None:
    result = run_explore(*SMALL_DATA, "--data.synthetic-test-size", "20", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "True\n")
    assert (tmp_path / "exploration" / "synthetic" / "exploration.json").is_file()
    assert result.stdout.splitlines()[-1].startswith("written: exploration/synthetic/exploration.json")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--data.name", "mnist"], "'fashion_mnist', 'synthetic'"),
        (["--data.seed", "-1"], "--data.seed is -1: choose a value in [0, 4294967295]"),
        (["--data.validation-size", "60000"], "which leaves none of 60000 images for training"),
        (["--data.seed", "-1", "--bogus"], "--data.seed is -1"),
        (["--data.seed", "-1", "--bogus"], "--bogus"),
        (["--train.epochs", "1"], "--train.epochs"),
        (["--out"], "--out"),
        ([*SMALL_DATA, "--out", "file"], "is a file, not a directory: choose another --out"),
        ([*SMALL_DATA, "--out", "file/new"], "is a file, not a directory: choose another --out"),
        (["stray"], "stray"),
    ],
)
def test_bad_invocation_is_refused_in_one_line_before_jax_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], expected: str
) -> None:
    monkeypatch.setattr("fmnist_jax.explore.backend.start", lambda: pytest.fail("JAX was started"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(FmnistError) as exc_info:
        command.main(argv)
    assert expected in str(exc_info.value)
    assert len(str(exc_info.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_refused_command_does_not_import_jax(tmp_path: Path) -> None:
    result = run_explore("--data.seed", "-1", cwd=tmp_path)
    expected_stderr = ["error: --data.seed is -1: choose a value in [0, 4294967295]", "False"]
    assert (result.returncode, result.stdout, result.stderr.splitlines()) == (2, "", expected_stderr)


def test_help_lists_data_options_but_no_training_options(tmp_path: Path) -> None:
    result = run_explore("--help", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "False\n")
    assert "--data.validation-size" in result.stdout
    assert "--out" in result.stdout
    assert "--train." not in result.stdout
