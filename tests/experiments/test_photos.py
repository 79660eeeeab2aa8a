"""Scoring of photos, on generated pictures."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from experiments import photos
from fmnist_jax import CLASS_NAMES, FRAMES, Config, DataConfig, FmnistError

_ROWS = ("b.png,Dress|Coat,phone", "a.png,Bag,shoes", "c.png,Trouser,phone", "d.png,Bag,phone")


def _make_trained(data: Any = "fashion_mnist", **changes: Any) -> SimpleNamespace:
    """What the module reads of a trained run."""
    known = {"config": Config(data=DataConfig(name=data)), "image_shape": (28, 28, 1), "class_names": CLASS_NAMES}
    return SimpleNamespace(**{**known, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = np.full((80, 60, 3), 250, np.uint8)
    pixels[10:70, 20:40] = (20, 60, 90)
    for name in "abcd":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("\n".join(("file,accepted,kind", *_ROWS)))
    return tmp_path


def test_every_third_photo_by_name_is_held_back(folder: Path) -> None:
    names = {
        part: [photo.path.name for photo in photos.read_labelled_photos(folder, part)]
        for part in ("all", "held-back", "development")
    }
    assert names == {
        "all": ["a.png", "b.png", "c.png", "d.png"],
        "held-back": ["c.png"],
        "development": ["a.png", "b.png", "d.png"],
    }
    assert photos.read_labelled_photos(folder)[1].accepted == {"Dress", "Coat"}


def test_unknown_class_is_refused(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,accepted,kind\na.png,Dress|Hat,phone\n")
    with pytest.raises(FmnistError, match=r"a\.png accepts \['Dress', 'Hat'\]"):
        photos.read_labelled_photos(folder)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,accepted\na.png,Dress\n", r"labels\.csv has no column kind"),
        ("", r"labels\.csv has no column accepted, file, kind"),
        ("file,accepted,kind\nx.png,Dress,phone\n", r"names x\.png, which is missing"),
        ("file,accepted,kind\n,Dress,phone\n", r"has the row ',Dress,phone', without file: complete it, or remove it"),
        ("file,accepted,kind\nb.png,Dress,phone\na.png\n", r"has the row 'a\.png', without accepted, kind: complete"),
        ("kind,accepted,file\nphone,Dress\n", r"has the row 'phone,Dress', without file: complete it, or remove it"),
    ],
)
def test_malformed_labels_and_missing_photos_are_refused(folder: Path, table: str, message: str) -> None:
    (folder / "labels.csv").write_text(table)
    with pytest.raises(FmnistError, match=message):
        photos.read_labelled_photos(folder)


def test_missing_labels_and_an_empty_part_are_refused(folder: Path) -> None:
    (folder / "labels.csv").write_text("\n".join(("file,accepted,kind", *_ROWS[:2])))
    with pytest.raises(FmnistError, match="has 2 photos, none in the part 'held-back'"):
        photos.read_labelled_photos(folder, "held-back")
    (folder / "labels.csv").unlink()
    with pytest.raises(FmnistError, match=r"labels\.csv is missing"):
        photos.read_labelled_photos(folder)


def test_top1_and_top3_count_any_accepted_class(folder: Path) -> None:
    logits = np.full((4, 10), -9.0)
    for row, ranked in enumerate((("Shirt", "Coat", "Bag"), ("Coat", "Shirt", "Bag"), ("Coat", "Shirt", "Bag"), "")):
        for rank, name in enumerate(ranked):
            logits[row, CLASS_NAMES.index(name)] = -rank
    scores = photos.score_photos(photos.read_labelled_photos(folder), softmax(logits, axis=-1), [()] * 4)
    # Among equal logits the lower label ranks first, and Bag is not one of the three lowest.
    assert scores == [photos.Score("phone", 1, 1, 3, 2, 1), photos.Score("shoes", 0, 1, 1, 1, 0)]


def test_confident_predictions_are_counted_separately(folder: Path) -> None:
    probabilities = np.full((4, 10), 0.02)
    for row, (name, probability) in enumerate((("Bag", 0.88), ("Coat", 0.82), ("Coat", 0.82), ("Bag", 0.95))):
        probabilities[row, CLASS_NAMES.index(name)] = probability
    labelled = photos.read_labelled_photos(folder)
    assert photos.score_photos(labelled, probabilities, [()] * 4) == [
        photos.Score("phone", 2, 3, 3, confident=3, confident_top1=2),
        photos.Score("shoes", 1, 1, 1, confident=0, confident_top1=0),
    ]
    assert photos.score_photos(labelled, probabilities, [(), (), ("outline",), ()])[0] == photos.Score(
        "phone", 2, 3, 3, 2, 2
    )


def test_preparations_are_those_of_predict_and_of_tutorials(folder: Path) -> None:
    labelled = photos.read_labelled_photos(folder)
    (predict_inputs, seconds), (tutorial_inputs, _) = (
        photos.prepare_all(labelled, prepare) for prepare in photos.preparations(FRAMES["fashion_mnist"]).values()
    )
    predict_images, tutorial_images = (
        np.stack([image for image, _ in inputs]) for inputs in (predict_inputs, tutorial_inputs)
    )
    assert predict_images.shape == tutorial_images.shape == (4, 28, 28, 1)
    assert seconds > 0
    assert predict_images[0, 0].max() > 200  # the garment fills the height
    assert not predict_images[0, :, 0].any()
    assert (tutorial_images[0, 0] == 5).all()  # unchanged, with its margin


def test_file_that_is_not_a_picture_is_refused(folder: Path) -> None:
    intact = (folder / "b.png").read_bytes()
    labelled = photos.read_labelled_photos(folder)
    for contents in (b"text", b"", intact[:60], intact[:-30]):
        (folder / "b.png").write_bytes(contents)
        with pytest.raises(FmnistError, match=r"b\.png cannot be read as a picture .*: replace it, or remove its row"):
            photos.prepare_all(labelled, photos.prepare_like_tutorials)


def test_missing_run_is_refused(folder: Path) -> None:
    with pytest.raises(FmnistError, match="no run is given: add the run directories"):
        photos.main(photos.Arguments(folder, ()))


def test_scores_are_printed_for_each_run_and_preparation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tta_calls: list[str] = []

    def predict(images: np.ndarray, tta: str) -> np.ndarray:
        tta_calls.append(tta)
        return np.tile(np.arange(10.0), (len(images), 1))

    pair = np.full((80, 60, 3), 250, np.uint8)
    pair[10:70, [*range(8, 24), *range(36, 52)]] = (20, 60, 90)
    Image.fromarray(pair).save(folder / "a.png")
    rows = (_ROWS[0], "a.png,Sandal,shoes", *_ROWS[2:])
    (folder / "labels.csv").write_text("\n".join(("file,accepted,kind", *rows)))
    monkeypatch.setattr(photos, "load_trained", lambda _: _make_trained(predict=predict))
    photos.main(photos.Arguments(folder, (Path("runs/one"), Path("two")), tta="mirror"))
    lines = capsys.readouterr().out.splitlines()
    assert tta_calls == ["mirror"] * 4
    assert [line.partition(" (")[0] for line in lines if not line.startswith(" ")] == [
        f"{run}, prepared as by {preparation}" for run in ("one", "two") for preparation in ("predict", "tutorials")
    ]
    # The network alone ranks boot, bag and sneaker highest, but a pair cannot be a bag.
    assert lines[2].startswith("  shoes: first 0 of 1, 0% (95% interval 0% to 79%), among three 1 of 1, 100%")
    assert "among three 0 of 1" in lines[5]


def test_labels_of_a_spreadsheet_begin_with_a_byte_order_mark_and_are_utf_8(folder: Path) -> None:
    labels = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(labels, encoding="utf-8-sig")
    assert len(photos.read_labelled_photos(folder)) == 4
    (folder / "labels.csv").write_bytes(labels.encode() + "ä.png,Dress,phone\n".encode("latin-1"))
    with pytest.raises(FmnistError, match=r"labels\.csv cannot be read .*: save it as CSV in UTF-8"):
        photos.read_labelled_photos(folder)


def test_garments_are_placed_as_in_the_runs_data_and_other_classes_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for data, frame in (("fashion_mnist", "fashion_mnist"), ("synthetic", "synthetic"), ("own", "fashion_mnist")):
        monkeypatch.setattr(photos, "load_trained", lambda _, data=data: _make_trained(data=data))
        assert photos.load_garment_run(Path("run"))[1] == FRAMES[frame]
    monkeypatch.setattr(photos, "load_trained", lambda _: _make_trained(data="own", class_names=tuple("0123456789")))
    with pytest.raises(FmnistError, match=r"run classifies images of 28x28x1 as 0, 1, .*: give a run with the images"):
        photos.load_garment_run(Path("run"))
