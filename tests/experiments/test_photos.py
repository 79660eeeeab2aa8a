"""The scores of photos, on pictures that are drawn here."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from experiments import photos
from fmnist_jax import CLASS_NAMES, FmnistError

_ROWS = ("b.png,Dress|Coat,phone", "a.png,Bag,shoes", "c.png,Trouser,phone", "d.png,Bag,phone")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = np.full((80, 60, 3), 250, np.uint8)
    pixels[10:70, 20:40] = (20, 60, 90)
    for name in "abcd":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("\n".join(("file,accepted,kind", *_ROWS)))
    return tmp_path


def test_every_third_by_name_is_held_back(folder: Path) -> None:
    names = {
        part: [photo.path.name for photo in photos.labelled(folder, part)]
        for part in ("all", "held-back", "development")
    }
    assert names == {
        "all": ["a.png", "b.png", "c.png", "d.png"],
        "held-back": ["c.png"],
        "development": ["a.png", "b.png", "d.png"],
    }
    assert photos.labelled(folder)[1].accepted == {"Dress", "Coat"}


def test_a_class_that_is_none_is_refused(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,accepted,kind\na.png,Dress|Hat,phone\n")
    with pytest.raises(FmnistError, match=r"a\.png accepts \['Dress', 'Hat'\]"):
        photos.labelled(folder)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("file,accepted\na.png,Dress\n", r"labels\.csv has no column kind"),
        ("", r"labels\.csv has no column accepted, file, kind"),
        ("file,accepted,kind\nx.png,Dress,phone\n", r"names x\.png, which is missing"),
    ],
)
def test_a_table_of_another_form_or_other_photos_is_refused(folder: Path, table: str, says: str) -> None:
    (folder / "labels.csv").write_text(table)
    with pytest.raises(FmnistError, match=says):
        photos.labelled(folder)


def test_a_folder_without_labels_or_without_photos_in_a_part_is_refused(folder: Path) -> None:
    (folder / "labels.csv").write_text("\n".join(("file,accepted,kind", *_ROWS[:2])))
    with pytest.raises(FmnistError, match="has 2 photos, none in the part 'held-back'"):
        photos.labelled(folder, "held-back")
    (folder / "labels.csv").unlink()
    with pytest.raises(FmnistError, match=r"labels\.csv is missing"):
        photos.labelled(folder)


def test_the_first_or_one_of_three_may_be_any_that_is_accepted(folder: Path) -> None:
    logits = np.full((4, 10), -9.0)
    for row, ranked in enumerate((("Shirt", "Coat", "Bag"), ("Coat", "Shirt", "Bag"), ("Coat", "Shirt", "Bag"), "")):
        for place, name in enumerate(ranked):
            logits[row, CLASS_NAMES.index(name)] = -place
    found = photos.scores(photos.labelled(folder), softmax(logits, axis=-1), [()] * 4)
    # Of equal logits the lower label is the likelier one, and Bag is none of the three lowest.
    assert found == [photos.Score("phone", 1, 1, 3, 2, 1), photos.Score("shoes", 0, 1, 1, 1, 0)]


def test_those_that_predict_would_not_mark_are_counted_apart(folder: Path) -> None:
    shares = np.full((4, 10), 0.02)
    for row, (name, share) in enumerate((("Bag", 0.88), ("Coat", 0.82), ("Coat", 0.82), ("Bag", 0.95))):
        shares[row, CLASS_NAMES.index(name)] = share
    drawn = photos.labelled(folder)
    assert photos.scores(drawn, shares, [()] * 4) == [
        photos.Score("phone", 2, 3, 3, sure=3, sure_and_first=2),
        photos.Score("shoes", 1, 1, 1, sure=0, sure_and_first=0),
    ]
    assert photos.scores(drawn, shares, [(), (), ("outline",), ()])[0] == photos.Score("phone", 2, 3, 3, 2, 2)


def test_the_preparations_are_those_of_predict_and_of_tutorials(folder: Path) -> None:
    drawn = photos.labelled(folder)
    (of_predict, seconds), (of_tutorials, _) = (photos.prepared(drawn, way) for way in photos.WAYS.values())
    ours, theirs = (np.stack([image for image, _ in ready]) for ready in (of_predict, of_tutorials))
    assert ours.shape == theirs.shape == (4, 28, 28, 1)
    assert seconds > 0
    assert ours[0, 0].max() > 200  # the garment fills the height
    assert not ours[0, :, 0].any()
    assert (theirs[0, 0] == 5).all()  # as it stands, with its margin


def test_photos_alone_are_refused(folder: Path) -> None:
    with pytest.raises(FmnistError, match="no run is given: add the run directories"):
        photos.main(photos.Arguments(folder, ()))


def test_each_run_and_preparation_has_its_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def predict(images: np.ndarray, tta: str) -> np.ndarray:
        asked.append(tta)
        return np.tile(np.arange(10.0), (len(images), 1))

    two = np.full((80, 60, 3), 250, np.uint8)
    two[10:70, [*range(8, 24), *range(36, 52)]] = (20, 60, 90)
    Image.fromarray(two).save(folder / "a.png")
    rows = (_ROWS[0], "a.png,Sandal,shoes", *_ROWS[2:])
    (folder / "labels.csv").write_text("\n".join(("file,accepted,kind", *rows)))
    monkeypatch.setattr(photos, "load_trained", lambda _: SimpleNamespace(predict=predict))
    photos.main(photos.Arguments(folder, (Path("runs/one"), Path("two")), tta="mirror"))
    lines = capsys.readouterr().out.splitlines()
    assert asked == ["mirror"] * 4
    assert [line.partition(" (")[0] for line in lines if not line.startswith(" ")] == [
        f"{run}, prepared as by {way}" for run in ("one", "two") for way in ("predict", "tutorials")
    ]
    # A boot, a bag and a sneaker are the likeliest by the network alone, but of a pair no bag is.
    assert lines[2].startswith("  shoes: first 0 of 1, 0% (95% interval 0% to 79%), among three 1 of 1, 100%")
    assert "among three 0 of 1" in lines[5]
