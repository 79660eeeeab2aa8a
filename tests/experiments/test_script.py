"""Experiments as command-line scripts."""

import importlib
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments.script import run_script
from fmnist_jax import FmnistError, parse_arguments
from fmnist_jax.runs.interruption import InterruptionError

_ROOT = Path(__file__).parents[2]
_SCRIPTS = [path for path in sorted((_ROOT / "experiments").rglob("*.py")) if "__main__" in path.read_text()]


@dataclass(frozen=True)
class _Arguments:
    number: int = 1


def test_run_script_parses_the_process_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script", "--number", "3"])
    received: list[_Arguments] = []
    run_script(received.append, _Arguments)
    assert received == [_Arguments(3)]


def test_user_errors_exit_with_code_2_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["script"])

    def refuse(arguments: _Arguments) -> None:
        raise FmnistError(f"number is {arguments.number}: choose 2")

    with pytest.raises(SystemExit) as exc_info:
        run_script(refuse, _Arguments)
    assert exc_info.value.code == 2
    assert capsys.readouterr() == ("", "error: number is 1: choose 2\n")


def test_stopped_script_says_so_and_exits_as_the_signal_demands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["script"])

    def stop(_: _Arguments) -> None:
        raise InterruptionError(signal.SIGTERM, "its state is saved")

    with pytest.raises(SystemExit) as exc_info:
        run_script(stop, _Arguments)
    assert exc_info.value.code == 143
    assert capsys.readouterr() == ("", "stopped: its state is saved\n")


def test_unusable_arguments_are_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["script", "--number", "three", "--colour", "red"])
    with pytest.raises(SystemExit) as exc_info:
        run_script(print, _Arguments)
    assert exc_info.value.code == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert len(printed.err.splitlines()) == 1
    assert "--number" in printed.err
    assert "--colour" in printed.err


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: str(path.relative_to(_ROOT / "experiments")))
def test_every_script_starts_the_same_way_and_has_help(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert path.read_text().rstrip().endswith("Arguments)")  # of `run_script`, or of what calls it
    module = importlib.import_module(".".join(path.relative_to(_ROOT).with_suffix("").parts))
    with pytest.raises(SystemExit) as exc_info:
        parse_arguments(module.Arguments, ["--help"], "script")
    assert exc_info.value.code == 0
    usage, _, summary, *_ = capsys.readouterr().out.splitlines()
    assert usage.startswith("usage: script [-h]")
    assert summary == module.Arguments.__doc__.splitlines()[0]


@pytest.mark.parametrize("platforms", ["cuda", "cuda,cpu"])
def test_missing_device_is_reported_in_one_line(platforms: str) -> None:
    script = (
        "import sys, jax; from experiments import script\n"
        f"try: script.start_jax({platforms!r})\n"
        "except script.FmnistError as error: sys.exit(f'{error}')\n"
        "print(jax.default_backend())"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if result.stdout == "gpu\n":
        pytest.skip("this machine has a GPU")
    assert result.returncode == 1
    assert result.stderr.startswith(f"JAX has no device on {platforms} (")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("lines", [1, 100_000])
def test_script_whose_reader_leaves_ends_silently_with_the_code_of_sigpipe(lines: int) -> None:
    script = (
        "import dataclasses; from experiments.script import run_script\n"
        f"run_script(lambda _: print('line\\n' * {lines}), dataclasses.make_dataclass('Arguments', []))"
    )
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=_ROOT)
    assert process.stdout is not None
    process.stdout.close()
    _, error = process.communicate()
    assert (process.returncode, error) == (141, "")
