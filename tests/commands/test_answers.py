"""What is told of predictions is true, in every form in which it is told."""

import csv
import errno
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmnist_jax.commands import answers
from fmnist_jax.commands.prediction import Picture, Preview, Report
from fmnist_jax.data.photos import Background
from fmnist_jax.errors import DataError, FmnistError
from fmnist_jax.functional.labels import CLASS_NAMES

LIGHT, DARK = Background("light", (255, 255, 255)), Background("dark", (0, 0, 10))


def report(**changes: Any) -> Report:
    """Three pictures, of which the second is unsure, between two that cannot be read."""
    rng = np.random.default_rng(0)
    looks = [
        Preview(
            rng.integers(0, 256, (200, 150, 3), dtype=np.uint8),
            (0.1, 0.2, 0.8, 0.9),
            rng.integers(0, 256, (28, 28, 1), dtype=np.uint8),
        )
        for _ in range(3)
    ]
    names = ["a, b.png", 'the "best".png', "two\nlines.png"]
    probabilities = rng.permuted(np.tile(np.arange(10) / 45, (3, 1)), axis=1)
    made = Report(
        run=Path("runs/fast"),
        step=70,
        tta="mirror",
        class_names=CLASS_NAMES,
        names=["gone.png", *names, "text.png"],
        pictures=[
            Picture(name, background, (10, 20, 30, 40), 1.5, look)
            for name, background, look in zip(names, (LIGHT, DARK, LIGHT), looks, strict=True)
        ],
        probabilities=probabilities,
        doubts=[(), ("a pair", "low probability"), ()],
        skipped=[
            ("gone.png", DataError("gone.png cannot be read")),
            ("text.png", DataError("text.png is not a picture")),
        ],
    )
    return made._replace(**changes)


EMPTY: dict[str, Any] = {"pictures": [], "probabilities": np.zeros((0, 10)), "doubts": [], "names": ["gone.png"]}


def test_json_holds_all_that_was_decided() -> None:
    given = report()
    document = json.loads(answers.to_json(given))
    assert document.keys() == {"run", "checkpoint", "tta", "predictions", "skipped"}
    assert (document["run"], document["checkpoint"], document["tta"]) == ("runs/fast", 70, "mirror")
    assert document["skipped"] == [
        {"file": "gone.png", "reason": "gone.png cannot be read"},
        {"file": "text.png", "reason": "text.png is not a picture"},
    ]
    for each, picture, row in zip(document["predictions"], given.pictures, given.probabilities, strict=True):
        assert each["file"] == picture.name
        assert tuple(each["box"]) == picture.box
        assert list(each["probabilities"]) == list(CLASS_NAMES)
        assert sum(each["probabilities"].values()) == pytest.approx(1)
        order = np.argsort(-row)[:3]
        assert [top["label"] for top in each["top"]] == order.tolist()
        assert [top["name"] for top in each["top"]] == [CLASS_NAMES[label] for label in order]
        assert [top["probability"] for top in each["top"]] == pytest.approx(row[order])
    assert [each["unsure"] for each in document["predictions"]] == [[], ["a pair", "low probability"], []]
    white, black = {"kind": "light", "colour": "#ffffff"}, {"kind": "dark", "colour": "#00000a"}
    assert [each["background"] for each in document["predictions"]] == [white, black, white]


def test_csv_has_a_row_for_each_picture_in_the_order_of_their_names() -> None:
    given = report()
    rows = list(csv.DictReader(io.StringIO(answers.to_csv(given))))
    assert [row["path"] for row in rows] == given.names
    for row, shares in zip(rows[1:4], given.probabilities, strict=True):
        order = np.argsort(-shares)[:3]
        assert [row["class"], row["second"], row["third"]] == [CLASS_NAMES[label] for label in order]
        told = [float(row[name]) for name in ("probability", "second_probability", "third_probability")]
        assert told == pytest.approx(shares[order], abs=1e-6)
    assert [(row["unsure"], row["reason"]) for row in rows] == [
        *(("", ""), ("no", ""), ("yes", "a pair, low probability"), ("no", ""), ("", ""))
    ]
    assert [row["error"] for row in rows] == ["gone.png cannot be read", "", "", "", "text.png is not a picture"]
    assert {row["class"] for row in rows[::4]} == {""}
    assert None not in rows[0]


def test_csv_of_two_classes_leaves_the_third_empty() -> None:
    two = report(class_names=("yes", "no"), probabilities=np.array([[0.25, 0.75]] * 3))
    row = list(csv.DictReader(io.StringIO(answers.to_csv(two))))[1]
    assert (row["class"], row["second"], row["third"], row["third_probability"]) == ("no", "yes", "", "")
    assert row["unsure"] == "no"


def test_csv_is_written_whole_whatever_the_names_hold(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    answers.write_csv(path, report(names=["gone.png", "\udcff.png"], skipped=[("gone.png", DataError("gone"))],
                                   pictures=[report().pictures[0]._replace(name="\udcff.png")],
                                   probabilities=report().probabilities[:1], doubts=[()]))  # fmt: skip
    assert path.read_text().splitlines()[2].startswith("\\udcff.png,")
    assert [each.name for each in path.parent.iterdir()] == ["table.csv"]


def test_the_table_has_a_row_for_each_picture(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    given = report()
    answers.print_table(given)
    lines = capsys.readouterr().out.splitlines()
    starts = [number for number, line in enumerate(lines) if ".png" in line]
    rows = ["\n".join(lines[start : start + 3]) for start in starts]
    assert len(rows) == 3
    for row, picture, probabilities in zip(rows, given.pictures, given.probabilities, strict=True):
        assert picture.name.replace("\n", "\\n") in row
        assert picture.background.kind in row
        for label, line in zip(np.argsort(-probabilities)[:3], row.splitlines(), strict=True):
            assert CLASS_NAMES[label] in line
            assert f"{probabilities[label]:.1%}" in line
    assert ["a pair" in row for row in rows] == [False, True, False]


def test_of_many_pictures_counts_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_MAX_TABLE_PICTURES", 2)
    answers.print_table(report())
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("│")[1].strip(): line.split("│")[2:4] for line in lines if "│" in line}
    assert rows.keys() == set(CLASS_NAMES)
    assert sum(int(pictures) for pictures, _ in rows.values()) == 3
    assert sum(int(unsure) for _, unsure in rows.values()) == 1
    assert lines[-1] == "3 pictures; use --csv or --json to list them, --show for what the network saw"


def test_names_are_whole_where_they_are_piped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    given = report()
    pictures = [picture._replace(name=f"{'very_' * 30}{index}.png") for index, picture in enumerate(given.pictures)]
    answers.print_table(given._replace(pictures=pictures))
    lines = [line for line in capsys.readouterr().out.splitlines() if ".png" in line]
    assert all(picture.name in line for picture, line in zip(pictures, lines, strict=True))


def test_nothing_to_tell_is_still_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = report(**EMPTY, skipped=report().skipped[:1])
    assert json.loads(answers.to_json(empty))["predictions"] == []
    assert answers.to_csv(empty).splitlines()[1] == "gone.png,,,,,,,,,gone.png cannot be read"
    answers.print_table(empty)
    for name in ("sheet.png", "page.html"):
        answers.write_previews(tmp_path / name, empty)
    assert (list(tmp_path.iterdir()), capsys.readouterr()) == ([], ("", ""))


@pytest.mark.parametrize(("name", "begins"), [("sheet.png", b"\x89PNG"), ("page.HTML", b"<!doctype html>")])
def test_what_was_seen_is_drawn_in_full_or_in_part(
    name: str, begins: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / name
    answers.write_previews(path, report())
    assert path.read_bytes().startswith(begins)
    assert capsys.readouterr().err == ""
    first, second, third = report().pictures
    answers.write_previews(path, report(pictures=[first, second, third._replace(preview=None)]))
    assert capsys.readouterr().err == f"note: {path} shows the first 2 of 3 pictures\n"


def test_a_sheet_shows_less_than_a_page_and_no_file_nothing() -> None:
    assert answers.max_previews(None) == 0
    assert 0 < answers.max_previews(Path("sheet.png")) < answers.max_previews(Path("page.html"))


@pytest.mark.parametrize("name", ["sheet.png", "page.html", "table.csv"])
def test_what_cannot_be_written_is_one_line_and_leaves_what_was_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / name
    path.write_text("before")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(FmnistError, match=f"cannot write .*{name} \\(No space left on device\\)"):
        (answers.write_csv if name == "table.csv" else answers.write_previews)(path, report())
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_the_sheet_is_a_picture(tmp_path: Path) -> None:
    answers.write_previews(tmp_path / "sheet.png", report())
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.format == "PNG"
