"""The export command: what it refuses before importing JAX, and what it passes to the implementation."""

from pathlib import Path

import pytest

from fmnist_jax import export
from fmnist_jax.commands import exporting
from fmnist_jax.data.places import DataPaths
from fmnist_jax.errors import ConfigError, FmnistError


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "RUN"),
        (["run"], "OUT"),
        (["run", "out", "--formats", "pickle"], "pickle"),
        (["run", "out", "--split", "test"], "--split"),
        (["run", "gs://out"], "OUT is gs:"),
    ],
)
def test_bad_arguments_are_named_in_the_error(arguments: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        export.main(arguments)


def test_missing_package_nonempty_folder_and_missing_run_are_refused_before_jax_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fmnist_jax.export.backend.start", lambda: pytest.fail("JAX was started"))
    monkeypatch.setattr("fmnist_jax.commands.formats.is_installed", lambda _: False)
    with pytest.raises(ConfigError, match="onnx needs onnx"):
        export.main(["run", str(tmp_path / "out"), "--formats", "onnx"])
    (tmp_path / "file").touch()
    with pytest.raises(FmnistError, match="choose another OUT"):
        export.main(["run", str(tmp_path)])
    with pytest.raises(FmnistError, match=r"has no config\.json: give a run directory"):
        export.main([str(tmp_path), str(tmp_path / "out"), "--formats", "jaxexport"])


def test_parsed_arguments_are_passed_to_run_and_skipped_formats_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[object, ...]] = []

    def run(*arguments: object) -> list[str]:
        calls.append(arguments)
        return ["model.jaxexport", "README.md"]

    monkeypatch.setattr(exporting, "run", run)
    monkeypatch.setattr(export, "require_config", lambda _: None)
    monkeypatch.setattr("fmnist_jax.commands.formats.is_installed", lambda name: name != "onnx")
    monkeypatch.chdir(tmp_path)
    export.main(["a/run", "out"])
    export.main(["a/run", "out", "--formats", "jaxexport", "--checkpoint", "best", "--data.dir", "here"])
    assert calls == [
        (Path("a/run"), Path("out"), ("jaxexport", "safetensors"), "latest", DataPaths()),
        (Path("a/run"), Path("out"), ("jaxexport",), "best", DataPaths(Path("here"))),
    ]
    assert capsys.readouterr().out.splitlines() == [
        "written: out/model.jaxexport, README.md",
        "left out: model.onnx needs onnx: pip install onnx",
        "written: out/model.jaxexport, README.md",
    ]
