"""Experiments as commands."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from experiments.script import start
from fmnist_jax import FmnistError


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
