"""The report command: of one run, of several, and of folders that hold some."""

from pathlib import Path

import pytest

from fmnist_jax import report
from fmnist_jax.commands import comparison, reporting
from fmnist_jax.data.places import DataPaths
from fmnist_jax.errors import ConfigError


def test_it_writes_the_report_of_the_run_and_says_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(directory: Path, data: DataPaths) -> Path:
        assert data == DataPaths(dir=Path("here"))
        return directory / "report.html"

    monkeypatch.setattr(reporting, "run", run)
    report.main(["a/run", "--data.dir", "here"])
    assert capsys.readouterr().out == f"written: {Path('a/run/report.html')}\n"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder that holds the runs b and c, and what is none."""
    for name in ("c", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").touch()
    (tmp_path / "runs" / "none").mkdir()
    return tmp_path / "runs"


def test_several_runs_are_compared_on_one_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs: Path
) -> None:
    asked: list[tuple[list[Path], Path | None]] = []

    def run(directories: list[Path], data: DataPaths, out: Path | None) -> Path:
        assert data == DataPaths()
        asked.append((directories, out))
        return out or Path("comparison.html")

    monkeypatch.setattr(comparison, "run", run)
    report.main([str(runs / "c"), str(runs / "b")])
    report.main([str(runs), "--out", "a.html"])
    assert asked == [([runs / "c", runs / "b"], None), ([runs / "b", runs / "c"], Path("a.html"))]
    assert capsys.readouterr().out == "written: comparison.html\nwritten: a.html\n"


def test_a_run_of_a_folder_that_was_stopped_before_its_first_save_is_left_out(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "c" / "checkpoints" / "10").mkdir(parents=True)
    assert report.find_runs([runs]) == [runs / "c"]
    assert capsys.readouterr().err == f"note: {runs / 'b'} has no checkpoint yet and is left out\n"
    assert report.find_runs([runs / "b", runs]) == [runs / "b", runs / "c"]  # as it is named
    assert capsys.readouterr().err == ""


def test_a_run_is_found_once_and_in_the_order_of_its_first_naming(runs: Path) -> None:
    b, c = runs / "b", runs / "c"
    assert report.find_runs([c, runs, runs / ".." / "runs" / "c"]) == [c, b]
    assert report.find_runs([runs / "none", runs / "missing"]) == [runs / "none", runs / "missing"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "RUN"),
        (["a", "--split", "test"], "--split"),
        (["a", "b", "--out", "page.txt"], "--out is page.txt"),
        (
            ["a", "--out", "page.html"],
            "--out is page.html, but the report of a single run is written to its directory, a",
        ),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        report.main(arguments)
