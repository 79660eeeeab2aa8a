"""Paths as users write them."""

from pathlib import Path

import pytest

from fmnist_jax.config import paths
from fmnist_jax.errors import ConfigError


@pytest.mark.parametrize(
    "path", ["runs/a", "/runs/a", "./a", "../a", "a~b/~", "C:/runs", "läuft/日本", "a b", "x" * 255]
)
def test_local_paths_are_left_unchanged(path: str) -> None:
    assert paths.expand_checked(Path(path), "--here") == Path(path)


@pytest.mark.parametrize(("path", "expected"), [("/a/b", "b"), ("/a/b/..", "a"), ("/", "/"), ("/a/./b/", "b")])
def test_display_name_is_the_last_part_of_the_full_path(path: str, expected: str) -> None:
    assert paths.display_name(Path(path)) == expected


def test_display_name_of_a_relative_path_is_that_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "runs" / "one")
    assert [paths.display_name(Path(path)) for path in (".", "..")] == ["one", "runs"]


def test_tilde_expands_to_a_home_directory() -> None:
    assert paths.expand_checked(Path("~/runs"), "--here") == Path.home() / "runs"
    assert paths.expand_checked(Path("~root/runs"), "--here") == Path("~root").expanduser() / "runs"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("gs://bucket/run", "--here is gs:/bucket/run, an address (gs), not a folder"),
        ("s3:/bucket", "an address (s3)"),
        ("file:///data/run", "an address (file)"),
        ("HTTPS://host/x", "an address (HTTPS)"),
        ("~nobody_of_that_name/x", "no home directory of that name is known"),
        ("a\nb", "--here is a\\nb, which contains a control character"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\0b", "control character"),
        ("a\udcff", "--here is a\\udcff, which contains a byte that is not valid UTF-8"),
        ("x" * 256, "a name of 256 bytes"),
        ("runs/" + "日" * 86 + "/a", "a name of 258 bytes"),
    ],
)
def test_invalid_paths_are_rejected_with_a_one_line_message(path: str, expected: str) -> None:
    with pytest.raises(ConfigError) as exc_info:
        paths.expand_checked(Path(path), "--here")
    message = str(exc_info.value)
    assert expected in message
    assert message.isprintable()
