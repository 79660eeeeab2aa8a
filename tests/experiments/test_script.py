"""Experiments as commands."""

import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments.script import start
from fmnist_jax import FmnistError, parse_arguments

_ROOT = Path(__file__).parents[2]
_RUNNABLE = [path for path in sorted((_ROOT / "experiments").rglob("*.py")) if "__main__" in path.read_text()]


@dataclass(frozen=True)
class _Arguments:
    number: int = 1


def test_arguments_are_those_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script", "--number", "3"])
    seen: list[_Arguments] = []
    start(seen.append, _Arguments)
    assert seen == [_Arguments(3)]


def test_what_the_user_can_mend_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["script"])

    def refuse(arguments: _Arguments) -> None:
        raise FmnistError(f"number is {arguments.number}: choose 2")

    with pytest.raises(SystemExit) as caught:
        start(refuse, _Arguments)
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", "error: number is 1: choose 2\n")


def test_arguments_that_cannot_be_used_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["script", "--number", "three", "--colour", "red"])
    with pytest.raises(SystemExit) as caught:
        start(print, _Arguments)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert len(printed.err.splitlines()) == 1
    assert "--number" in printed.err
    assert "--colour" in printed.err


@pytest.mark.parametrize("path", _RUNNABLE, ids=lambda path: str(path.relative_to(_ROOT / "experiments")))
def test_every_script_is_started_alike_and_has_a_help_text(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert path.read_text().rstrip().endswith(("Arguments)", "kind)"))  # of `start`, or of what calls it
    module = importlib.import_module(".".join(path.relative_to(_ROOT).with_suffix("").parts))
    with pytest.raises(SystemExit) as caught:
        parse_arguments(module.Arguments, ["--help"], "script")
    assert caught.value.code == 0
    usage, _, first, *_ = capsys.readouterr().out.splitlines()
    assert usage.startswith("usage: script [-h]")
    assert first == module.Arguments.__doc__.splitlines()[0]


@pytest.mark.parametrize("platforms", ["cuda", "cuda,cpu"])
def test_a_device_that_is_not_there_is_one_line(platforms: str) -> None:
    script = (
        "import sys, jax; from experiments import script\n"
        f"try: script.start_jax({platforms!r})\n"
        "except script.FmnistError as error: sys.exit(f'{error}')\n"
        "print(jax.default_backend())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if done.stdout == "gpu\n":
        pytest.skip("this machine has a GPU")
    assert done.returncode == 1
    assert done.stderr.startswith(f"JAX has no device on {platforms} (")
    assert len(done.stderr.splitlines()) == 1
