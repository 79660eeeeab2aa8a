"""The list of commands, and running a command by name."""

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
# Runs `python -m fmnist_jax`, and then prints the imported modules as the last line on standard error.
SPY = """
import atexit, json, runpy, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
runpy.run_module("fmnist_jax", run_name="__main__", alter_sys=True)
"""


def run_main(*argv: str) -> tuple[int, str, list[str], set[str]]:
    """Exit code, standard output, lines of standard error, and imported modules."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "COLUMNS": "100"}
    result = subprocess.run(
        [sys.executable, "-c", SPY, *argv], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    *errors, modules = result.stderr.splitlines()
    return result.returncode, result.stdout, errors, set(json.loads(modules))


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_on_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(argv, prog="fmnist-jax") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: fmnist-jax COMMAND [ARGUMENTS]"
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line.startswith("  ")}
    assert listed == dict(commands.COMMANDS)
    assert all(len(line) <= 100 for line in lines)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_listed_command_is_a_runnable_module(name: str) -> None:
    source = (PACKAGE / f"{name}.py").read_text()
    main = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "main")
    assert [argument.arg for argument in main.args.args] == ["argv", "prog"]
    assert main.args.defaults
    assert f'"python -m fmnist_jax.{name}"' in source
    assert "cli.run_command(main)" in source


def test_every_runnable_module_is_listed() -> None:
    runnable = {path.stem for path in PACKAGE.glob("*.py") if "cli.run_command(main)" in path.read_text()}
    assert runnable == commands.COMMANDS.keys()


def test_command_help_names_it_and_imports_neither_jax_nor_other_commands() -> None:
    code, out, errors, modules = run_main("explore", "--help")
    assert (code, errors) == (0, [])
    assert out.startswith("usage: python -m fmnist_jax explore ")
    assert "fmnist_jax.explore" in modules
    others = {f"fmnist_jax.{name}" for name in commands.COMMANDS if name != "explore"}
    assert not modules & {"jax", "matplotlib", *others}


def test_listing_commands_imports_none_of_them() -> None:
    code, out, errors, modules = run_main()
    assert (code, errors) == (0, [])
    assert "usage: python -m fmnist_jax COMMAND" in out
    assert not modules & {"jax", *(f"fmnist_jax.{name}" for name in commands.COMMANDS)}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("trian", "did you mean train?"),
        ("evalute", "did you mean evaluate?"),
        ("Train", "did you mean train?"),
        *((name, f"choose one of {', '.join(commands.COMMANDS)}") for name in ("zzz", "--bogus", "", "os")),
    ],
)
def test_unknown_command_is_refused_with_a_suggestion(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as exc_info:
        commands.main([name], prog="fmnist-jax")
    assert str(exc_info.value) == f"{name!r} is not a command of fmnist-jax: {hint}"


def test_user_errors_exit_with_code_2_and_one_line() -> None:
    for argv, word in ((["tarin"], "train"), (["train", "--train.epochs", "0"], "--train.epochs is 0")):
        code, out, errors, _ = run_main(*argv)
        assert (code, out, len(errors)) == (2, "", 1)
        assert errors[0].startswith("error: ")
        assert word in errors[0]


def test_console_script_usage_shows_its_own_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "run_command", lambda command: command(["train", "--help"]))
    monkeypatch.setattr(sys, "argv", ["/usr/bin/fmnist-jax", "train", "--help"])
    with pytest.raises(SystemExit) as exc_info:
        commands.run()
    assert not exc_info.value.code
    assert capsys.readouterr().out.startswith("usage: fmnist-jax train ")


def test_version_is_read_from_the_package_metadata(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "1.2.3")
    assert commands.main(["--version"]) == 0
    assert capsys.readouterr().out == "fmnist_jax 1.2.3\n"


def test_version_of_an_uninstalled_copy_says_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raise_not_found(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", raise_not_found)
    assert commands.main(["--version"]) == 0
    assert "not installed" in capsys.readouterr().out
