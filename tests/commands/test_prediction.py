"""Predictions of photos: the pictures of synthetic garments are told apart, and what is told of them is true."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmnist_jax.commands import prediction
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.schema import ParallelConfig
from fmnist_jax.data import synthetic
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.runs import loop, trained

_GARMENTS = 50


def photo(garment: np.ndarray, on_white: bool, cloth: np.ndarray) -> Image.Image:
    """A garment u8[28, 28, 1] of a colour, 560 pixels large in a photo of 600x800, on white or on black."""
    enlarged = Image.fromarray(garment[..., 0]).resize((560, 560), Image.Resampling.BICUBIC)
    cover = np.zeros((800, 600, 1))
    cover[120:680, 20:580, 0] = np.asarray(enlarged) / 255
    background = np.full(3, 255.0 if on_white else 0.0)
    return Image.fromarray(np.rint(background + (cloth - background) * cover).astype(np.uint8))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a run of the demo's network on the demo's garments."""
    demo = PRESETS["demo"]
    path = tmp_path_factory.mktemp("runs") / "demo"
    loop.run(
        replace(
            demo,
            data=replace(demo.data, synthetic_test_size=250),
            train=replace(demo.train, epochs=2, eval_mirror=False, eval_every=2),
            parallel=ParallelConfig(devices=1),
            run=replace(demo.run, dir=path, progress="plain"),
        )
    )
    return path


@pytest.fixture(scope="module")
def garments() -> tuple[np.ndarray, np.ndarray]:
    """Garments that no run of the demo has seen, five of each class."""
    images, labels = synthetic.draw(_GARMENTS, 2**32 - 7)
    return images, labels


@pytest.mark.parametrize("on_white", [True, False])
def test_nine_of_ten_photos_of_garments_are_told_apart(
    run: Path, garments: tuple[np.ndarray, np.ndarray], on_white: bool, tmp_path: Path
) -> None:
    images, labels = garments
    rng = np.random.default_rng(0)
    for index, image in enumerate(images):
        cloth = rng.integers(0, 90, 3) if on_white else rng.integers(165, 256, 3)
        photo(image, on_white, cloth).save(tmp_path / f"{index:03}.jpg", quality=85)
    report = prediction.run(run, [str(tmp_path)], "latest", "none", None)
    assert [Path(picture.name).stem for picture in report.pictures] == [f"{index:03}" for index in range(_GARMENTS)]
    assert {picture.prepared.background.kind for picture in report.pictures} == {"light" if on_white else "dark"}
    right = report.probabilities.argmax(-1) == labels
    # The network itself takes some coats for shirts; what it gets right must not get lost on the way from a photo.
    known = trained.load_trained(run).predict(images).argmax(-1) == labels
    assert right[known].mean() >= 0.9
    first_of_each = [int(np.flatnonzero((labels == label) & known)[0]) for label in range(10)]
    assert right[first_of_each].sum() >= 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, garments: tuple[np.ndarray, np.ndarray]) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    for index in range(3):
        photo(garments[0][index], index % 2 == 0, np.array([120, 120, 120])).save(path / f"{index}.png")
    (path / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (50, 50), "white").save(path / "blank.png")
    return path


def predicted(run: Path, *names: Path, **options: Any) -> prediction.Report:
    return prediction.run(
        run, [str(name) for name in names], **{"which": "latest", "tta": "none", "sheet": None} | options
    )


def test_what_cannot_be_predicted_is_named_and_the_rest_is_predicted(
    run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = predicted(run, folder, folder / "missing.png")
    assert [Path(picture.name).name for picture in report.pictures] == ["0.png", "1.png", "2.png"]
    assert [Path(name).name for name, _ in report.skipped] == ["blank.png", "broken.png", "missing.png"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("skipped: ") for line in lines] == [True] * 3
    for line, words in zip(lines, ("blank.png is blank", "broken.png is no picture", "missing.png"), strict=True):
        assert words in line


def test_json_holds_all_that_was_decided(run: Path, folder: Path) -> None:
    report = predicted(run, folder, tta="mirror")
    document = json.loads(prediction.to_json(report))
    assert document.keys() == {"run", "checkpoint", "tta", "predictions", "skipped"}
    assert (document["run"], document["checkpoint"], document["tta"]) == (str(run), report.step, "mirror")
    assert [Path(each["file"]).name for each in document["skipped"]] == ["blank.png", "broken.png"]
    for each, picture, row in zip(document["predictions"], report.pictures, report.probabilities, strict=True):
        assert each["file"] == picture.name
        assert tuple(each["box"]) == picture.prepared.box
        assert list(each["probabilities"]) == list(CLASS_NAMES)
        assert sum(each["probabilities"].values()) == pytest.approx(1)
        order = np.argsort(-row)[:3]
        assert [top["label"] for top in each["top"]] == order.tolist()
        assert [top["name"] for top in each["top"]] == [CLASS_NAMES[label] for label in order]
        assert [top["probability"] for top in each["top"]] == pytest.approx(row[order])
    assert [each["unsure"] for each in document["predictions"]] == [list(doubts) for doubts in report.doubts]
    colours = [each["background"] for each in document["predictions"]]
    white, black = {"kind": "light", "colour": "#ffffff"}, {"kind": "dark", "colour": "#000000"}
    assert colours == [white, black, white]


def test_the_table_has_a_row_for_each_picture(
    run: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    report = predicted(run, folder)
    capsys.readouterr()
    prediction.print_table(report)
    lines = capsys.readouterr().out.splitlines()
    starts = [number for number, line in enumerate(lines) if ".png" in line]
    rows = ["\n".join(lines[start : start + 3]) for start in starts]
    assert len(rows) == 3
    for row, picture, probabilities in zip(rows, report.pictures, report.probabilities, strict=True):
        assert picture.name in row
        assert picture.prepared.background.kind in row
        for label, line in zip(np.argsort(-probabilities)[:3], row.splitlines(), strict=True):
            assert CLASS_NAMES[label] in line
            assert f"{probabilities[label]:.1%}" in line


def test_what_is_hard_about_a_picture_is_told_wherever_its_classes_are(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    Image.fromarray(np.pad(np.zeros((20, 12), np.uint8), 90, constant_values=255)).save(tmp_path / "small.png")
    report = predicted(run, tmp_path)
    assert "very small" in report.doubts[0]
    prediction.print_table(report)
    assert "very small" in capsys.readouterr().out


def test_of_many_pictures_counts_are_told(
    run: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "_IN_TABLE", 2)
    report = predicted(run, folder)
    capsys.readouterr()
    prediction.print_table(report)
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("│")[1].strip(): line.split("│")[2:4] for line in lines if "│" in line}
    assert rows.keys() == set(CLASS_NAMES)
    assert sum(int(pictures) for pictures, _ in rows.values()) == 3
    assert sum(int(unsure) for _, unsure in rows.values()) == sum(map(bool, report.doubts))
    assert lines[-1] == "3 pictures; --json tells of each"


def test_names_are_whole_where_they_are_piped(
    run: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    report = predicted(run, folder)
    pictures = [picture._replace(name=f"{'very_' * 30}{index}.png") for index, picture in enumerate(report.pictures)]
    capsys.readouterr()
    prediction.print_table(report._replace(pictures=pictures))
    assert all(picture.name in line for picture, line in zip(pictures, _rows(capsys), strict=True))


def _rows(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if ".png" in line]


def test_nothing_to_tell_is_still_a_document(run: Path, folder: Path, tmp_path: Path) -> None:
    report = predicted(run, folder / "broken.png", sheet=tmp_path / "sheet.png")
    assert json.loads(prediction.to_json(report))["predictions"] == []
    assert not (tmp_path / "sheet.png").exists()


def test_the_sheet_is_drawn_in_full_or_in_part(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "new" / "sheet.png"
    predicted(run, folder, sheet=sheet)
    with Image.open(sheet) as image:
        assert image.format == "PNG"
    assert "shows the first" not in capsys.readouterr().err
    monkeypatch.setattr(prediction, "_ON_SHEET", 2)
    predicted(run, folder, sheet=sheet)
    assert f"note: {sheet} shows the first 2 of 3 pictures" in capsys.readouterr().err
