"""What experiments record about machines, sessions and commits."""

import json
from pathlib import Path

import pytest

from experiments.records import origin, session_origins, short_commit, write_json

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
