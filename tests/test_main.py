"""The list of commands, and running one by its name."""

import ast
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import fmnist_jax
from fmnist_jax import __main__ as commands
from fmnist_jax.commands import cli
from fmnist_jax.errors import ConfigError

PACKAGE = Path(fmnist_jax.__file__).parent
# What `python -m fmnist_jax` does, and then the modules that it has imported, as a last line on standard error.
SPY = """
import atexit, json, runpy, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
runpy.run_module("fmnist_jax", run_name="__main__", alter_sys=True)
"""


def spy(*argv: str) -> tuple[int, str, list[str], set[str]]:
    """Exit code, standard output, lines of standard error, and what was imported."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", SPY, *argv], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    *errors, modules = done.stderr.splitlines()
    return done.returncode, done.stdout, errors, set(json.loads(modules))


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_commands_are_listed_with_a_line_each(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(argv, prog="fmnist-jax") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: fmnist-jax COMMAND [ARGUMENTS]"
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line.startswith("  ")}
    assert listed == dict(commands.COMMANDS)
    assert all(len(line) <= 100 for line in lines)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_listed_command_is_a_module_that_runs(name: str) -> None:
    source = (PACKAGE / f"{name}.py").read_text()
    main = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "main")
    assert [argument.arg for argument in main.args.args] == ["argv", "prog"]
    assert main.args.defaults
    assert f'"python -m fmnist_jax.{name}"' in source
    assert "cli.run_command(main)" in source


def test_every_command_is_listed() -> None:
    runnable = {path.stem for path in PACKAGE.glob("*.py") if "cli.run_command(main)" in path.read_text()}
    assert runnable == commands.COMMANDS.keys()


def test_help_of_a_command_names_it_and_imports_neither_jax_nor_another_command() -> None:
    code, out, errors, modules = spy("explore", "--help")
    assert (code, errors) == (0, [])
    assert out.startswith("usage: python -m fmnist_jax explore ")
    assert "fmnist_jax.explore" in modules
    others = {f"fmnist_jax.{name}" for name in commands.COMMANDS if name != "explore"}
    assert not modules & {"jax", "matplotlib", *others}


def test_the_list_imports_no_command() -> None:
    code, out, errors, modules = spy()
    assert (code, errors) == (0, [])
    assert "usage: python -m fmnist_jax COMMAND" in out
    assert not modules & {"jax", *(f"fmnist_jax.{name}" for name in commands.COMMANDS)}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("trian", "did you mean train?"),
        ("evalute", "did you mean evaluate?"),
        ("zzz", "choose one of train, evaluate, predict, explore, report, export"),
        ("--bogus", "choose one of"),
        ("", "choose one of"),
        ("os", "choose one of"),
        ("Train", "did you mean train?"),
    ],
)
def test_an_unknown_command_is_refused_with_the_nearest_one(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        commands.main([name], prog="fmnist-jax")
    assert str(caught.value) == f"{name!r} is not a command of fmnist-jax: {caught.value.args[0].split(': ', 1)[1]}"
    assert hint in str(caught.value)


def test_what_a_command_refuses_is_one_line_and_exit_code_2() -> None:
    for argv, word in ((["tarin"], "train"), (["train", "--train.epochs", "0"], "--train.epochs is 0")):
        code, out, errors, _ = spy(*argv)
        assert (code, out, len(errors)) == (2, "", 1)
        assert errors[0].startswith("error: ")
        assert word in errors[0]


def test_the_console_script_calls_itself_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "run_command", lambda command: command(["train", "--help"]))
    monkeypatch.setattr(sys, "argv", ["/usr/bin/fmnist-jax", "train", "--help"])
    with pytest.raises(SystemExit) as stop:
        commands.run()
    assert not stop.value.code
    assert capsys.readouterr().out.startswith("usage: fmnist-jax train ")


def test_version_is_that_of_the_installed_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "1.2.3")
    assert commands.main(["--version"]) == 0
    assert capsys.readouterr().out == "fmnist_jax 1.2.3\n"


def test_a_copy_that_is_not_installed_has_no_version_to_tell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert commands.main(["--version"]) == 0
    assert "not installed" in capsys.readouterr().out
