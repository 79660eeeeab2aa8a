"""Paths as people write them."""

from pathlib import Path

import pytest

from fmnist_jax.config import paths
from fmnist_jax.errors import ConfigError


@pytest.mark.parametrize(
    "path", ["runs/a", "/runs/a", "./a", "../a", "a~b/~", "C:/runs", "läuft/日本", "a b", "x" * 255]
)
def test_paths_on_this_machine_are_left_as_they_are(path: str) -> None:
    assert paths.expand_checked(Path(path), "--here") == Path(path)


def test_a_tilde_is_a_home_directory() -> None:
    assert paths.expand_checked(Path("~/runs"), "--here") == Path.home() / "runs"
    assert paths.expand_checked(Path("~root/runs"), "--here") == Path("~root").expanduser() / "runs"


@pytest.mark.parametrize(
    ("path", "words"),
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
def test_what_is_no_path_on_any_machine_is_refused_in_one_line(path: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        paths.expand_checked(Path(path), "--here")
    message = str(caught.value)
    assert words in message
    assert message.isprintable()
