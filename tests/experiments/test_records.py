"""What experiments record of machines, sessions and commits."""

import json
from pathlib import Path

import pytest

from experiments.records import origin, short, starts, write

_ENVIRONMENT = {
    **{"python": "3.11", "packages": {"jax": "0.10"}, "platform": "secret", "processor": "Fast One"},
    **{"cpu_count": 2, "backend": "cpu", "devices": ["cpu"], "git_commit": "a" * 40, "command": ["/home/me"]},
}


def test_an_origin_holds_no_place_on_the_machine() -> None:
    found = origin(_ENVIRONMENT)
    assert found["versions"] == {"python": "3.11", "jax": "0.10"}
    assert found["commit"] == "a" * 40
    assert not {"secret", "/home/me"} & {str(value) for value in found["hardware"].values()}


def test_starts_are_told_where_something_changed(tmp_path: Path) -> None:
    other = {**_ENVIRONMENT, "cpu_count": 1}
    lines = [_ENVIRONMENT, {**_ENVIRONMENT, "command": ["again"]}, other, other, _ENVIRONMENT]
    cut = json.dumps({**_ENVIRONMENT, "cpu_count": 3})[:40]
    (tmp_path / "sessions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + cut)
    assert starts(tmp_path) == [origin(_ENVIRONMENT), origin(other), origin(_ENVIRONMENT)]


@pytest.mark.parametrize(
    ("commit", "expected"),
    [("0123456789", "0123456"), ("0123456789+changes", "0123456+changes"), ("unknown", "unknown")],
)
def test_a_commit_in_short_still_says_that_there_were_changes(commit: str, expected: str) -> None:
    assert short(commit) == expected


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "found.json"
    write(path, {"folder": tmp_path, "rate": 1.5})
    assert json.loads(path.read_text()) == {"folder": str(tmp_path), "rate": 1.5}
    with pytest.raises(TypeError):
        write(path, {("no", "key"): 1})  # type: ignore[dict-item]
    assert json.loads(path.read_text())["rate"] == 1.5
    assert [each.name for each in path.parent.iterdir()] == ["found.json"]
