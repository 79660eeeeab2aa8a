"""The command line of explore."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fmnist_jax

# The command, and then on standard error whether it has imported JAX.
SPY = """
import atexit, runpy, sys
atexit.register(lambda: print("jax" in sys.modules, file=sys.stderr))
runpy.run_module("fmnist_jax.explore", run_name="__main__", alter_sys=True)
"""
SMALL = ["--data.name", "synthetic", "--data.synthetic-train-size", "60", "--data.validation-size", "0"]


def explore(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1]), "COLUMNS": "100"}
    command = [sys.executable, "-c", SPY, *argv]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)


def test_without_out_it_writes_beside_where_it_was_called(tmp_path: Path) -> None:
    done = explore(*SMALL, "--data.synthetic-test-size", "20", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "True\n")
    assert (tmp_path / "exploration" / "synthetic" / "exploration.json").is_file()
    assert done.stdout.splitlines()[-1].startswith("written: exploration/synthetic/exploration.json")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--data.name", "mnist"], "'fashion_mnist', 'synthetic'"),
        (["--data.seed", "-1"], "--data.seed is -1: choose a value in [0, 4294967295]"),
        (["--data.validation-size", "60000"], "which leaves no training image of 60000"),
        (["--data.seed", "-1", "--bogus"], "--data.seed is -1"),
        (["--data.seed", "-1", "--bogus"], "--bogus"),
        (["--train.epochs", "1"], "--train.epochs"),
        (["--out"], "--out"),
        ([*SMALL, "--out", "file"], "is a file, not a directory: choose another --out"),
        ([*SMALL, "--out", "file/new"], "is a file, not a directory: choose another --out"),
        (["stray"], "stray"),
    ],
)
def test_a_bad_invocation_is_one_line_before_jax_is_imported(tmp_path: Path, argv: list[str], says: str) -> None:
    (tmp_path / "file").touch()
    done = explore(*argv, cwd=tmp_path)
    message, imported = done.stderr.splitlines()
    assert (done.returncode, done.stdout, imported) == (2, "", "False")
    assert message.startswith("error: ")
    assert says in message
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_help_names_the_options_of_the_data_alone(tmp_path: Path) -> None:
    done = explore("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "False\n")
    assert "--data.validation-size" in done.stdout
    assert "--out" in done.stdout
    assert "--train." not in done.stdout
