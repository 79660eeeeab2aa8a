"""The command line of explore."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fmnist_jax
from fmnist_jax import explore as command
from fmnist_jax.errors import FmnistError

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
        (["--data.validation-size", "60000"], "which leaves none of 60000 images for training"),
        (["--data.seed", "-1", "--bogus"], "--data.seed is -1"),
        (["--data.seed", "-1", "--bogus"], "--bogus"),
        (["--train.epochs", "1"], "--train.epochs"),
        (["--out"], "--out"),
        ([*SMALL, "--out", "file"], "is a file, not a directory: choose another --out"),
        ([*SMALL, "--out", "file/new"], "is a file, not a directory: choose another --out"),
        (["stray"], "stray"),
    ],
)
def test_a_bad_invocation_is_one_line_before_jax_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], says: str
) -> None:
    monkeypatch.setattr("fmnist_jax.explore.backend.start", lambda: pytest.fail("JAX was started"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(FmnistError) as refused:
        command.main(argv)
    assert says in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_refused_command_has_not_imported_jax(tmp_path: Path) -> None:
    done = explore("--data.seed", "-1", cwd=tmp_path)
    said = ["error: --data.seed is -1: choose a value in [0, 4294967295]", "False"]
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (2, "", said)


def test_help_names_the_options_of_the_data_alone(tmp_path: Path) -> None:
    done = explore("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "False\n")
    assert "--data.validation-size" in done.stdout
    assert "--out" in done.stdout
    assert "--train." not in done.stdout
