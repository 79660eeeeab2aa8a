"""Prediction reports in every output format: JSON, CSV, terminal table, preview sheet and HTML page."""

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
from fmnist_jax.commands.prediction import Picture, Prediction, Preview, Report, Skipped
from fmnist_jax.data.photos import Background
from fmnist_jax.errors import FmnistError
from fmnist_jax.functional.labels import CLASS_NAMES

LIGHT, DARK = Background("light", (255, 255, 255)), Background("dark", (0, 0, 10))


def make_report(**changes: Any) -> Report:
    """A report on three pictures, the second one unsure, between two unreadable files."""
    rng = np.random.default_rng(0)
    previews = [
        Preview(
            rng.integers(0, 256, (200, 150, 3), dtype=np.uint8),
            (0.1, 0.2, 0.8, 0.9),
            rng.integers(0, 256, (28, 28, 1), dtype=np.uint8),
        )
        for _ in range(3)
    ]
    names = ["a, b.png", 'the "best".png', "two\nlines.png"]
    probabilities = rng.permuted(np.tile(np.arange(10) / 45, (3, 1)), axis=1)
    backgrounds, doubts = (LIGHT, DARK, LIGHT), ((), ("a pair", "low probability"), ())
    report = Report(
        run=Path("runs/fast"),
        step=70,
        tta="mirror",
        class_names=CLASS_NAMES,
        names=["gone.png", *names, "text.png"],
        predictions=[
            Prediction(Picture(name, background, (10, 20, 30, 40), 1.5, preview), row, reasons)
            for name, background, preview, row, reasons in zip(
                names, backgrounds, previews, probabilities, doubts, strict=True
            )
        ],
        skipped=[Skipped("gone.png", "gone.png cannot be read"), Skipped("text.png", "text.png is not a picture")],
    )
    return report._replace(**changes)


def _change_picture(prediction: Prediction, **changes: Any) -> Prediction:
    return prediction._replace(picture=prediction.picture._replace(**changes))


def test_json_contains_all_predictions_and_skipped_files() -> None:
    report = make_report()
    document = json.loads(answers.to_json(report))
    assert document.keys() == {"run", "checkpoint", "tta", "predictions", "skipped"}
    assert (document["run"], document["checkpoint"], document["tta"]) == ("runs/fast", 70, "mirror")
    assert document["skipped"] == [
        {"file": "gone.png", "reason": "gone.png cannot be read"},
        {"file": "text.png", "reason": "text.png is not a picture"},
    ]
    for prediction, (picture, probabilities, _) in zip(document["predictions"], report.predictions, strict=True):
        assert prediction["file"] == picture.name
        assert tuple(prediction["box"]) == picture.box
        assert list(prediction["probabilities"]) == list(CLASS_NAMES)
        assert sum(prediction["probabilities"].values()) == pytest.approx(1)
        order = np.argsort(-probabilities)[:3]
        assert [top["label"] for top in prediction["top"]] == order.tolist()
        assert [top["name"] for top in prediction["top"]] == [CLASS_NAMES[label] for label in order]
        assert [top["probability"] for top in prediction["top"]] == pytest.approx(probabilities[order])
    assert [prediction["unsure"] for prediction in document["predictions"]] == [[], ["a pair", "low probability"], []]
    light, dark = {"kind": "light", "colour": "#ffffff"}, {"kind": "dark", "colour": "#00000a"}
    assert [prediction["background"] for prediction in document["predictions"]] == [light, dark, light]


def test_csv_has_one_row_per_input_in_input_order() -> None:
    report = make_report()
    rows = list(csv.DictReader(io.StringIO(answers.to_csv(report))))
    assert [row["path"] for row in rows] == report.names
    for row, (_, probabilities, _) in zip(rows[1:4], report.predictions, strict=True):
        order = np.argsort(-probabilities)[:3]
        assert [row["class"], row["second"], row["third"]] == [CLASS_NAMES[label] for label in order]
        actual = [float(row[name]) for name in ("probability", "second_probability", "third_probability")]
        assert actual == pytest.approx(probabilities[order], abs=1e-6)
    assert [(row["unsure"], row["reason"]) for row in rows] == [
        *(("", ""), ("no", ""), ("yes", "a pair, low probability"), ("no", ""), ("", ""))
    ]
    assert [row["error"] for row in rows] == ["gone.png cannot be read", "", "", "", "text.png is not a picture"]
    assert {row["class"] for row in rows[::4]} == {""}
    assert None not in rows[0]


def test_csv_of_two_classes_leaves_the_third_column_empty() -> None:
    predictions = [each._replace(probabilities=np.array([0.25, 0.75])) for each in make_report().predictions]
    report = make_report(class_names=("yes", "no"), predictions=predictions)
    row = list(csv.DictReader(io.StringIO(answers.to_csv(report))))[1]
    assert (row["class"], row["second"], row["third"], row["third_probability"]) == ("no", "yes", "", "")
    assert row["unsure"] == "no"


def test_write_csv_escapes_undecodable_names_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    answers.write_csv(
        path,
        make_report(
            names=["gone.png", "\udcff.png"],
            skipped=[Skipped("gone.png", "gone")],
            predictions=[_change_picture(make_report().predictions[0], name="\udcff.png")],
        ),
    )
    assert path.read_text().splitlines()[2].startswith("\\udcff.png,")
    assert [item.name for item in path.parent.iterdir()] == ["table.csv"]


def test_print_table_has_one_row_per_picture_with_its_top_classes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    report = make_report()
    answers.print_table(report)
    lines = capsys.readouterr().out.splitlines()
    starts = [number for number, line in enumerate(lines) if ".png" in line]
    rows = ["\n".join(lines[start : start + 3]) for start in starts]
    assert len(rows) == 3
    for row, (picture, probabilities, _) in zip(rows, report.predictions, strict=True):
        assert picture.name.replace("\n", "\\n") in row
        assert picture.background.kind in row
        for label, line in zip(np.argsort(-probabilities)[:3], row.splitlines(), strict=True):
            assert CLASS_NAMES[label] in line
            assert f"{probabilities[label]:.1%}" in line
    assert ["a pair" in row for row in rows] == [False, True, False]


def test_print_table_summarizes_many_pictures_as_counts_per_class(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_MAX_TABLE_PICTURES", 2)
    answers.print_table(make_report())
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("│")[1].strip(): line.split("│")[2:4] for line in lines if "│" in line}
    assert rows.keys() == set(CLASS_NAMES)
    assert sum(int(pictures) for pictures, _ in rows.values()) == 3
    assert sum(int(unsure) for _, unsure in rows.values()) == 1
    assert lines[-1] == "3 pictures; use --csv or --json to list them, --show for what the network saw"


def test_print_table_does_not_truncate_names_in_piped_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    report = make_report()
    predictions = [
        _change_picture(each, name=f"{'very_' * 30}{index}.png") for index, each in enumerate(report.predictions)
    ]
    answers.print_table(report._replace(predictions=predictions))
    lines = [line for line in capsys.readouterr().out.splitlines() if ".png" in line]
    assert all(each.picture.name in line for each, line in zip(predictions, lines, strict=True))


def test_report_without_pictures_gives_valid_json_csv_and_page_but_no_table_or_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = make_report(predictions=[], names=["gone.png"], skipped=make_report().skipped[:1])
    assert json.loads(answers.to_json(empty))["predictions"] == []
    assert answers.to_csv(empty).splitlines()[1] == "gone.png,,,,,,,,,gone.png cannot be read"
    answers.print_table(empty)
    assert capsys.readouterr() == ("", "")
    sheet, page = tmp_path / "sheet.png", tmp_path / "page.html"
    answers.write_previews(sheet, empty)
    assert capsys.readouterr() == ("", f"note: {sheet} was not written, as there is no picture to show\n")
    page.write_text("of an earlier call")
    answers.write_previews(page, empty)
    assert "gone.png cannot be read" in page.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(("name", "signature"), [("sheet.png", b"\x89PNG"), ("page.HTML", b"<!doctype html>")])
def test_write_previews_notes_when_only_some_pictures_are_shown(
    name: str, signature: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / name
    answers.write_previews(path, make_report())
    assert path.read_bytes().startswith(signature)
    assert capsys.readouterr().err == ""
    first, second, third = make_report().predictions
    answers.write_previews(path, make_report(predictions=[first, second, _change_picture(third, preview=None)]))
    assert capsys.readouterr().err == f"note: {path} shows the first 2 of 3 pictures\n"


def test_max_previews_is_zero_without_a_file_and_smaller_for_a_sheet_than_a_page() -> None:
    assert answers.max_previews(None) == 0
    assert 0 < answers.max_previews(Path("sheet.png")) < answers.max_previews(Path("page.html"))


@pytest.mark.parametrize("name", ["sheet.png", "page.html", "table.csv"])
def test_failed_write_raises_an_error_and_keeps_the_existing_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_disk_full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / name
    path.write_text("before")
    monkeypatch.setattr(Path, "replace", raise_disk_full)
    with pytest.raises(FmnistError, match=f"cannot write .*{name} \\(No space left on device\\)"):
        (answers.write_csv if name == "table.csv" else answers.write_previews)(path, make_report())
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_preview_sheet_is_a_png(tmp_path: Path) -> None:
    answers.write_previews(tmp_path / "sheet.png", make_report())
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.format == "PNG"
