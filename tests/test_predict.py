"""The command line of `predict`."""

import csv
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import fmnist_jax
from fmnist_jax import predict as command
from fmnist_jax.config.record import to_dict
from fmnist_jax.config.schema import Config, DataConfig, ModelConfig, TrainConfig
from fmnist_jax.errors import FmnistError
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.functional.recipe import make_recipe
from fmnist_jax.runs import checkpoint
from fmnist_jax.runs.directory import RunDirectory

_CONFIG = Config(
    data=DataConfig(name="synthetic", synthetic_train_size=100, validation_size=0),
    model=ModelConfig(family="plain", widths=(4,), depths=(1,), dropout=0.3),
    train=TrainConfig(epochs=1, batch_size=10),
)
# Runs the command, and then prints on standard error whether it imported JAX.
SPY = """
import atexit, runpy, sys
atexit.register(lambda: print("jax" in sys.modules, file=sys.stderr))
runpy.run_module("fmnist_jax.predict", run_name="__main__", alter_sys=True)
"""


def run_predict(*argv: str | Path, stdin: bytes = b"", spy: bool = False) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1]), "COLUMNS": "200"}
    interpreter_flags: Sequence[str] = ["-c", SPY] if spy else ["-m", "fmnist_jax.predict"]
    return subprocess.run(
        [sys.executable, *interpreter_flags, *map(str, argv)],
        input=stdin,
        capture_output=True,
        env=environment,
        check=False,
    )


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its initial weights."""
    path = tmp_path_factory.mktemp("runs") / "run"
    directory = RunDirectory(path)
    directory.create()
    directory.write_json("config.json", to_dict(_CONFIG))
    with checkpoint.writing(path / "checkpoints") as writer:
        writer.save(jax.jit(make_recipe(_CONFIG).init)(jax.random.key(0)), 0.5)
    return path


@pytest.fixture(scope="module")
def shirt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.full((80, 60, 3), 250, np.uint8)
    pixels[10:70, 20:40] = (20, 60, 90)
    path = tmp_path_factory.mktemp("pictures") / "shirt [red].png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def forbid_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmnist_jax.predict.backend.start", lambda: pytest.fail("JAX was started"))
    monkeypatch.setenv("COLUMNS", "200")


def test_json_output_is_a_single_document_on_stdout(run_dir: Path, shirt: Path) -> None:
    result = run_predict(run_dir, shirt, "-", "--json", stdin=shirt.read_bytes())
    assert (result.returncode, result.stderr) == (0, b"")
    first, second = json.loads(result.stdout)["predictions"]
    assert (first["file"], second["file"]) == (str(shirt), "-")
    assert first["probabilities"] == pytest.approx(second["probabilities"])


def test_table_goes_to_stdout_and_skipped_files_to_stderr(
    run_dir: Path, shirt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    unreadable, sheet = tmp_path / "text\n.png", tmp_path / "sheet.png"
    unreadable.write_text("no picture")
    assert command.main([str(run_dir), str(shirt), str(unreadable), "--show", str(sheet)]) == 2
    printed = capsys.readouterr()
    assert str(shirt) in printed.out
    lines = printed.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"skipped: {tmp_path}/text\\n.png is not a readable picture: expected PNG, JPEG, ")
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_csv_is_printed_or_written_with_one_row_per_picture(
    run_dir: Path, shirt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unreadable = tmp_path / "text.png"
    unreadable.write_text("no picture")
    assert command.main([str(run_dir), str(unreadable), str(shirt), "--csv", "-"]) == 2
    first, second = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (first["path"], second["path"]) == (str(unreadable), str(shirt))
    assert first["error"].startswith(f"{unreadable} is not a readable picture")
    assert second["class"] in CLASS_NAMES
    table, page = tmp_path / "table.csv", tmp_path / "page.html"
    assert command.main([str(run_dir), str(shirt), "--csv", str(table), "--show", str(page)]) == 0
    captured = capsys.readouterr()
    assert "most probable" in captured.out
    assert captured.err == ""
    assert list(csv.DictReader(table.read_text().splitlines())) == [second]
    assert page.read_text().startswith("<!doctype html>")


def test_progress_bar_is_shown_only_in_a_terminal(
    run_dir: Path, shirt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "00.png").write_text("no picture")
    for number in range(1, 12):
        shutil.copy(shirt, tmp_path / f"{number:02}.png")
    parent_fd, child_fd = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1]), "TERM": "xterm"}
    argv = [sys.executable, "-m", "fmnist_jax.predict", str(run_dir), str(tmp_path), "--csv", "-"]
    result = subprocess.run(argv, stdout=subprocess.PIPE, stderr=child_fd, env=environment, check=False)
    os.close(child_fd)
    terminal_output = os.read(parent_fd, 100_000).decode()
    os.close(parent_fd)
    assert "12/12" in terminal_output
    assert f"skipped: {tmp_path}/00.png" in re.sub(r"\r?\n", "", terminal_output)
    assert len(list(csv.DictReader(result.stdout.decode().splitlines()))) == 12
    command.main([str(run_dir), str(tmp_path), "--csv", "-"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("skipped: ")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], "Missing: RUN"),
        (["{run}"], "IMAGE is missing: give a picture"),
        (["{run}", "{shirt}", "--tta", "flip"], "'flip'"),
        (["{run}", "{shirt}", "--bogus"], "--bogus"),
        (["{run}", "{shirt}", "--jsno"], "did you mean --json?"),
        (["{run}", "{shirt}", "--show", "{here}/sheet.jpg"], "give a file that ends in .png or .html"),
        (["{run}", "{shirt}", "--csv", "-", "--json"], "give a file for --csv"),
        (["{run}", "{shirt}", "--csv", "{here}/file/table.csv"], "is a file, not a directory: choose another --csv"),
        (["{run}", "{shirt}", "--csv", "{here}/dir.png"], "is a directory: give a file for --csv"),
        (["{run}", "{shirt}", "--show", "{here}/file/sheet.png"], "is a file, not a directory: choose another --show"),
        (["{run}", "{shirt}", "--show", "{here}/dir.png"], "is a directory"),
        (["{here}/nowhere", "{shirt}"], "has no config.json: give a run directory"),
        (["{shirt}", "{run}"], "has no config.json: give a run directory"),
    ],
)
@pytest.mark.usefixtures("forbid_jax")
def test_bad_invocation_is_refused_in_one_line_before_jax_starts(
    run_dir: Path, shirt: Path, tmp_path: Path, argv: list[str], expected: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dir.png").mkdir()
    with pytest.raises(FmnistError) as exc_info:
        command.main([argument.format(run=run_dir, shirt=shirt, here=tmp_path) for argument in argv])
    assert expected in str(exc_info.value)
    assert len(str(exc_info.value).splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir.png", "file"]


def test_refused_command_does_not_import_jax(run_dir: Path) -> None:
    result = run_predict(run_dir, spy=True)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.decode().splitlines() == [
        "error: IMAGE is missing: give a picture, a directory of pictures, or - for standard input",
        "False",
    ]


def test_help_lists_every_argument() -> None:
    result = run_predict("--help", spy=True)
    assert (result.returncode, result.stderr) == (0, b"False\n")
    for word in (b"RUN", b"IMAGE", b"--checkpoint", b"--tta", b"--json", b"--csv", b"--show"):
        assert word in result.stdout
