"""What experiments record about machines, sessions and commits."""

import json
from pathlib import Path

import pytest

from experiments.records import origin, read_json, session_origins, short_commit, write_json
from fmnist_jax import FmnistError

_ENVIRONMENT = {
    **{"python": "3.11", "packages": {"jax": "0.10"}, "platform": "secret", "processor": "Fast One"},
    **{"cpu_count": 2, "backend": "cpu", "devices": ["cpu"], "git_commit": "a" * 40, "command": ["/home/me"]},
}


def test_origin_contains_no_paths_of_the_machine() -> None:
    recorded = origin(_ENVIRONMENT)
    assert recorded["versions"] == {"python": "3.11", "jax": "0.10"}
    assert recorded["commit"] == "a" * 40
    assert not {"secret", "/home/me"} & {str(value) for value in recorded["hardware"].values()}


def test_session_origins_lists_the_starts_that_differ(tmp_path: Path) -> None:
    other = {**_ENVIRONMENT, "cpu_count": 1}
    lines = [_ENVIRONMENT, {**_ENVIRONMENT, "command": ["again"]}, other, other, _ENVIRONMENT]
    truncated_line = json.dumps({**_ENVIRONMENT, "cpu_count": 3})[:40]
    (tmp_path / "sessions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + truncated_line)
    assert session_origins(tmp_path) == [origin(_ENVIRONMENT), origin(other), origin(_ENVIRONMENT)]


@pytest.mark.parametrize(
    ("commit", "expected"),
    [("0123456789", "0123456"), ("0123456789+changes", "0123456+changes"), ("unknown", "unknown")],
)
def test_short_commit_keeps_the_mark_of_changes(commit: str, expected: str) -> None:
    assert short_commit(commit) == expected


def test_write_json_is_atomic(tmp_path: Path) -> None:
    path = tmp_path / "new" / "found.json"
    write_json(path, {"folder": tmp_path, "rate": 1.5})
    assert json.loads(path.read_text()) == {"folder": str(tmp_path), "rate": 1.5}
    with pytest.raises(TypeError):
        write_json(path, {("no", "key"): 1})  # type: ignore[dict-item]
    assert json.loads(path.read_text())["rate"] == 1.5
    assert [file.name for file in path.parent.iterdir()] == ["found.json"]


def test_output_that_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "found.json").mkdir()
    for path, message in (
        (tmp_path / "found.json", r"found\.json is a directory: give the path of a file"),
        (tmp_path / "file" / "found.json", r"file cannot be made .*: give another folder"),
    ):
        with pytest.raises(FmnistError, match=message):
            write_json(path, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "found.json"]


def test_damaged_json_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"a": ')
    for name in ("cut.json", "missing.json"):
        with pytest.raises(FmnistError, match=rf"{name} cannot be read .*: restore it, or make it anew"):
            read_json(tmp_path / name)
