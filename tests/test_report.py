"""The report command: for one run, for several, and for folders that contain some."""

from pathlib import Path

import pytest

from fmnist_jax import report
from fmnist_jax.commands import comparison, reporting
from fmnist_jax.data.places import DataPaths
from fmnist_jax.errors import ConfigError


def test_single_run_report_is_written_and_its_path_printed(
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
    """A folder with the runs b and c, and a subfolder that is not a run."""
    for name in ("c", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").touch()
    (tmp_path / "runs" / "none").mkdir()
    return tmp_path / "runs"


def test_several_runs_are_compared_on_one_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs: Path
) -> None:
    calls: list[tuple[list[Path], Path | None]] = []

    def run(directories: list[Path], data: DataPaths, out: Path | None) -> Path:
        assert data == DataPaths()
        calls.append((directories, out))
        return out or Path("comparison.html")

    monkeypatch.setattr(comparison, "run", run)
    report.main([str(runs / "c"), str(runs / "b")])
    report.main([str(runs), "--out", "a.html"])
    assert calls == [([runs / "c", runs / "b"], None), ([runs / "b", runs / "c"], Path("a.html"))]
    assert capsys.readouterr().out == "written: comparison.html\nwritten: a.html\n"


def test_run_in_a_folder_without_a_checkpoint_is_skipped_unless_named(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "c" / "checkpoints" / "10").mkdir(parents=True)
    assert report.find_runs([runs]) == [runs / "c"]
    assert capsys.readouterr().err == f"note: {runs / 'b'} has no checkpoint yet and is left out\n"
    assert report.find_runs([runs / "b", runs]) == [runs / "b", runs / "c"]  # because it is named explicitly
    assert capsys.readouterr().err == ""


def test_find_runs_deduplicates_in_order_of_first_mention(runs: Path) -> None:
    b, c = runs / "b", runs / "c"
    assert report.find_runs([c, runs, runs / ".." / "runs" / "c"]) == [c, b]
    assert report.find_runs([runs / "none", runs / "missing"]) == [runs / "none", runs / "missing"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
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
def test_bad_arguments_are_named_in_the_error(arguments: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        report.main(arguments)
