"""The evaluation command: what it refuses before it imports JAX, and what it hands on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmnist_jax import evaluate
from fmnist_jax.commands import evaluation
from fmnist_jax.data.places import DataPaths
from fmnist_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "--split", "dev"], "dev"),
        (["run", "--tta", "flip"], "flip"),
        (["run", "--chekpoint", "best"], "--chekpoint"),
        ([], "RUN"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        evaluate.main(arguments)


def test_what_the_arguments_say_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(evaluation, "run", lambda *arguments: calls.append(arguments))
    evaluate.main(["a/run"])
    evaluate.main(["a/run", "--checkpoint", "best", "--split", "validation", "--tta", "mirror"])
    evaluate.main(["~/run", "--data.dir", "here", "--data.raw-dir", "there"])
    assert calls == [
        (Path("a/run"), "latest", "test", "none", DataPaths()),
        (Path("a/run"), "best", "validation", "mirror", DataPaths()),
        (Path.home() / "run", "latest", "test", "none", DataPaths(Path("here"), Path("there"))),
    ]


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_a_refusal_is_one_line_without_waiting_for_jax(command: str, tmp_path: Path) -> None:
    code = (
        f"import sys\nfrom fmnist_jax import {command}\nfrom fmnist_jax.errors import ConfigError\n"
        f"try:\n    {command}.main(['x', '--no-such-flag'])\n"
        "except ConfigError as error:\n    print(error)\n"
        "print([name for name in ('jax', 'matplotlib') if name in sys.modules])"
    )
    root = str(Path(evaluate.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}, check=True
    )
    refusal, loaded = done.stdout.splitlines()
    assert "--no-such-flag" in refusal
    assert loaded == "[]"
