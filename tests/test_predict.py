"""The command line of predict."""

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
# The command, and then on standard error whether it has imported JAX.
SPY = """
import atexit, runpy, sys
atexit.register(lambda: print("jax" in sys.modules, file=sys.stderr))
runpy.run_module("fmnist_jax.predict", run_name="__main__", alter_sys=True)
"""


def predict(*argv: str | Path, stdin: bytes = b"", spy: bool = False) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1]), "COLUMNS": "200"}
    start: Sequence[str] = ["-c", SPY] if spy else ["-m", "fmnist_jax.predict"]
    return subprocess.run(
        [sys.executable, *start, *map(str, argv)], input=stdin, capture_output=True, env=environment, check=False
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose weights are those that training starts from."""
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
def before_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmnist_jax.predict.backend.start", lambda: pytest.fail("JAX was started"))
    monkeypatch.setenv("COLUMNS", "200")


def test_json_is_one_document_and_all_that_is_on_standard_output(run: Path, shirt: Path) -> None:
    done = predict(run, shirt, "-", "--json", stdin=shirt.read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    first, second = json.loads(done.stdout)["predictions"]
    assert (first["file"], second["file"]) == (str(shirt), "-")
    assert first["probabilities"] == pytest.approx(second["probabilities"])


def test_the_table_goes_to_standard_output_and_what_is_left_out_to_standard_error(
    run: Path, shirt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    bad, sheet = tmp_path / "text\n.png", tmp_path / "sheet.png"
    bad.write_text("no picture")
    assert command.main([str(run), str(shirt), str(bad), "--show", str(sheet)]) == 2
    printed = capsys.readouterr()
    assert str(shirt) in printed.out
    lines = printed.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"skipped: {tmp_path}/text\\n.png is not a readable picture: expected PNG, JPEG, ")
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_csv_is_printed_or_written_with_a_row_for_each_picture(
    run: Path, shirt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "text.png"
    bad.write_text("no picture")
    assert command.main([str(run), str(bad), str(shirt), "--csv", "-"]) == 2
    first, second = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (first["path"], second["path"]) == (str(bad), str(shirt))
    assert first["error"].startswith(f"{bad} is not a readable picture")
    assert second["class"] in CLASS_NAMES
    table, page = tmp_path / "table.csv", tmp_path / "page.html"
    assert command.main([str(run), str(shirt), "--csv", str(table), "--show", str(page)]) == 0
    written = capsys.readouterr()
    assert "most probable" in written.out
    assert written.err == ""
    assert list(csv.DictReader(table.read_text().splitlines())) == [second]
    assert page.read_text().startswith("<!doctype html>")


def test_a_bar_is_shown_of_many_pictures_in_a_terminal_alone(
    run: Path, shirt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "00.png").write_text("no picture")
    for number in range(1, 12):
        shutil.copy(shirt, tmp_path / f"{number:02}.png")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1]), "TERM": "xterm"}
    argv = [sys.executable, "-m", "fmnist_jax.predict", str(run), str(tmp_path), "--csv", "-"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=theirs, env=environment, check=False)
    os.close(theirs)
    seen = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "12/12" in seen
    assert f"skipped: {tmp_path}/00.png" in re.sub(r"\r?\n", "", seen)
    assert len(list(csv.DictReader(done.stdout.decode().splitlines()))) == 12
    command.main([str(run), str(tmp_path), "--csv", "-"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("skipped: ")


@pytest.mark.parametrize(
    ("argv", "says"),
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
@pytest.mark.usefixtures("before_jax")
def test_a_bad_invocation_is_one_line_before_jax_is_started(
    run: Path, shirt: Path, tmp_path: Path, argv: list[str], says: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dir.png").mkdir()
    with pytest.raises(FmnistError) as refused:
        command.main([each.format(run=run, shirt=shirt, here=tmp_path) for each in argv])
    assert says in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir.png", "file"]


def test_a_refused_command_has_not_imported_jax(run: Path) -> None:
    done = predict(run, spy=True)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().splitlines() == [
        "error: IMAGE is missing: give a picture, a directory of pictures, or - for standard input",
        "False",
    ]


def test_help_explains_every_argument() -> None:
    done = predict("--help", spy=True)
    assert (done.returncode, done.stderr) == (0, b"False\n")
    for word in (b"RUN", b"IMAGE", b"--checkpoint", b"--tta", b"--json", b"--csv", b"--show"):
        assert word in done.stdout
