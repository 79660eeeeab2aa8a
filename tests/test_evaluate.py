"""The evaluation command: what it refuses before importing JAX, and what it passes to the implementation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmnist_jax import evaluate
from fmnist_jax.commands import evaluation
from fmnist_jax.data.places import DataPaths
from fmnist_jax.errors import ConfigError, FmnistError


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--split", "dev"], "dev"),
        (["run", "--tta", "flip"], "flip"),
        (["run", "--chekpoint", "best"], "--chekpoint"),
        ([], "RUN"),
    ],
)
def test_bad_arguments_are_named_in_the_error(arguments: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        evaluate.main(arguments)


def test_parsed_arguments_are_passed_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(evaluation, "run", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(evaluate, "require_config", lambda _: None)
    evaluate.main(["a/run"])
    evaluate.main(["a/run", "--checkpoint", "best", "--split", "validation", "--tta", "mirror"])
    evaluate.main(["~/run", "--data.dir", "here", "--data.raw-dir", "there"])
    assert calls == [
        (Path("a/run"), "latest", "test", "none", DataPaths()),
        (Path("a/run"), "best", "validation", "mirror", DataPaths()),
        (Path.home() / "run", "latest", "test", "none", DataPaths(Path("here"), Path("there"))),
    ]


def test_directory_without_a_run_is_refused_before_jax_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmnist_jax.evaluate.backend.start", lambda: pytest.fail("JAX was started"))
    with pytest.raises(FmnistError, match=r"has no config\.json: give a run directory"):
        evaluate.main([str(tmp_path)])


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_bad_flag_is_refused_in_one_line_without_importing_jax(command: str, tmp_path: Path) -> None:
    code = (
        f"import sys\nfrom fmnist_jax import {command}\nfrom fmnist_jax.errors import ConfigError\n"
        f"try:\n    {command}.main(['x', '--no-such-flag'])\n"
        "except ConfigError as error:\n    print(error)\n"
        "print([name for name in ('jax', 'matplotlib') if name in sys.modules])"
    )
    root = str(Path(evaluate.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}, check=True
    )
    message, loaded = result.stdout.splitlines()
    assert "--no-such-flag" in message
    assert loaded == "[]"
