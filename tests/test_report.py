"""The report command."""

from pathlib import Path

import pytest

from fmnist_jax import report
from fmnist_jax.commands import reporting
from fmnist_jax.data.places import Places
from fmnist_jax.errors import ConfigError


def test_it_writes_the_report_of_the_run_and_says_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(directory: Path, data: Places) -> Path:
        assert data == Places(dir=Path("here"))
        return directory / "report.html"

    monkeypatch.setattr(reporting, "run", run)
    report.main(["a/run", "--data.dir", "here"])
    assert capsys.readouterr().out == f"written: {Path('a/run/report.html')}\n"


@pytest.mark.parametrize(("arguments", "named"), [([], "RUN"), (["a", "--split", "test"], "--split")])
def test_bad_arguments_are_refused_by_name(arguments: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        report.main(arguments)
