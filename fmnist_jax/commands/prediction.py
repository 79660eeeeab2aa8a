"""Predictions of pictures: decoded and prepared one by one, predicted together, told as a table, JSON or a sheet."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from fmnist_jax.analysis.certainty import reasons_for_doubt
from fmnist_jax.commands import cli
from fmnist_jax.data import photo_files, photos
from fmnist_jax.errors import DataError
from fmnist_jax.runs import trained
from fmnist_jax.runs.trained import TestTimeAugmentation, Trained
from fmnist_jax.system import output
from fmnist_jax.system.storage import make_directory, write_figure
from fmnist_jax.views.photos import photo_sheet
from fmnist_jax.views.tables import prediction_summary, prediction_table

_TOP = 3
_IN_TABLE = 30  # pictures; of more, a table fills more screens than anybody reads
_ON_SHEET = 60  # pictures; more make a file that few viewers open
_THUMBNAIL = 160  # pixels


class Picture(NamedTuple):
    """A picture that could be read, and what was made of it."""

    name: str
    prepared: photos.Prepared
    thumbnail: np.ndarray
    """u8[h, w, 3]."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom of the object as shares of the picture's width and height."""


class Report(NamedTuple):
    """What a model takes pictures for."""

    run: Path
    step: int
    tta: TestTimeAugmentation
    class_names: Sequence[str]
    pictures: Sequence[Picture]
    probabilities: np.ndarray
    """f64[N, C], a row for each picture."""
    doubts: Sequence[tuple[str, ...]]
    """For each picture, why its prediction is unsure; nothing if it is not."""
    skipped: Sequence[tuple[str, DataError]]
    """The names of what was left out, and why."""


def run(directory: Path, names: Sequence[str], which: str, tta: TestTimeAugmentation, sheet: Path | None) -> Report:
    """Predicts pictures, names on standard error those that cannot be, and draws the sheet.

    Args:
      directory: of the run.
      names: of pictures, as for `photo_files.find`.
      which: the checkpoint, as for `trained.load_trained`.
      tta: as for `Trained.predict`.
      sheet: file to draw what the network saw into.

    Raises:
      FmnistError: there is no such run or checkpoint, or the sheet cannot be written.
    """
    model = trained.load_trained(directory, which)
    pictures, skipped = _prepare(names, _preparation(model))
    seen = [picture.prepared.image for picture in pictures]
    images = np.stack(seen) if seen else np.zeros((0, *model.image_shape), np.uint8)
    probabilities = softmax(model.predict(images, tta=tta).astype(np.float64), axis=-1)
    doubts = [_doubts(model, picture, row) for picture, row in zip(pictures, probabilities, strict=True)]
    report = Report(directory, model.step, tta, model.class_names, pictures, probabilities, doubts, skipped)
    if sheet is not None and pictures:
        _write_sheet(sheet, report)
    return report


def _doubts(model: Trained, picture: Picture, probabilities: np.ndarray) -> tuple[str, ...]:
    """Why a prediction is unsure; what is known of that is of garments."""
    if not _sees_garments(model):
        return ()
    return reasons_for_doubt(probabilities, picture.prepared.doubts, model.class_names)


def _sees_garments(model: Trained) -> bool:
    return model.image_shape == (photos.SIZE, photos.SIZE, 1)


def _preparation(model: Trained) -> Callable[[np.ndarray], photos.Prepared]:
    """How a picture becomes an image of a run's shape: 28x28 grey as garments are, any other by its whole middle."""
    if _sees_garments(model):
        frame = photos.FRAMES.get(model.config.data.name, photos.FRAMES["fashion_mnist"])
        return lambda pixels: photos.to_dataset_image(pixels, frame)
    return lambda pixels: photos.to_shape(pixels, model.image_shape)


def _prepare(
    names: Iterable[str], prepare: Callable[[np.ndarray], photos.Prepared]
) -> tuple[list[Picture], list[tuple[str, DataError]]]:
    """Reads pictures; returns those that can be predicted, and why the others cannot."""
    pictures, skipped = [], []
    for name, problem in photo_files.find(names):
        try:
            if problem is not None:
                raise problem
            pictures.append(_read(name, prepare))
        except DataError as error:
            output.warn(f"skipped: {error}")
            skipped.append((name, error))
    return pictures, skipped


def _read(name: str, prepare: Callable[[np.ndarray], photos.Prepared]) -> Picture:
    pixels, (width, height) = photo_files.read_reduced(name)
    prepared = prepare(pixels)
    if prepared.box is None:
        raise DataError(f"{photo_files.shown(name)} is blank: nothing stands out from its background")
    (rows, columns), (left, top, right, bottom) = pixels.shape[:2], prepared.box
    box = (left / columns, top / rows, right / columns, bottom / rows)
    in_file = tuple(round(share * edge) for share, edge in zip(box, (width, height) * 2, strict=True))
    prepared = prepared._replace(box=in_file)
    return Picture(name, prepared, photos.thumbnail(pixels, _THUMBNAIL), box)


def _write_sheet(path: Path, report: Report) -> None:
    pictures = report.pictures[:_ON_SHEET]
    figure = photo_sheet(
        [picture.thumbnail for picture in pictures],
        [picture.box for picture in pictures],
        np.stack([picture.prepared.image for picture in pictures]),
        report.probabilities[:_ON_SHEET],
        report.class_names,
        doubts=report.doubts[:_ON_SHEET],
    )
    make_directory(path.parent)
    write_figure(path, figure)
    if len(report.pictures) > _ON_SHEET:
        output.warn(f"note: {path} shows the first {_ON_SHEET} of {len(report.pictures)} pictures")


def print_table(report: Report) -> None:
    """Prints the three most probable classes of each picture, its background and doubts; of many pictures, counts."""
    if not report.pictures:
        return
    if len(report.pictures) > _IN_TABLE:
        counts = prediction_summary(report.probabilities, report.class_names, report.doubts)
        cli.show([counts, f"{len(report.pictures):,} pictures; --json tells of each"])
        return
    names = [photo_files.shown(picture.name) for picture in report.pictures]
    backgrounds = [picture.prepared.background for picture in report.pictures]
    described = [f"{background.kind} {_hex(background.colour)}" for background in backgrounds]
    cli.show([prediction_table(names, described, report.probabilities, report.class_names, report.doubts)])


def to_json(report: Report) -> str:
    """The report as one JSON document."""
    predictions = [
        _described(picture, probabilities, report.class_names) | {"unsure": list(doubts)}
        for picture, probabilities, doubts in zip(report.pictures, report.probabilities, report.doubts, strict=True)
    ]
    document = {
        "run": str(report.run),
        "checkpoint": report.step,
        "tta": report.tta,
        "predictions": predictions,
        "skipped": [{"file": name, "reason": str(error)} for name, error in report.skipped],
    }
    return json.dumps(document, indent=2, allow_nan=False)


def _described(picture: Picture, probabilities: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    prepared = picture.prepared
    top = [
        {"label": label, "name": names[label], "probability": float(probabilities[label])}
        for label in _top(probabilities)
    ]
    return {
        "file": picture.name,
        "background": {"kind": prepared.background.kind, "colour": _hex(prepared.background.colour)},
        "box": prepared.box,
        "contrast": prepared.contrast,
        "top": top,
        "probabilities": dict(zip(names, map(float, probabilities), strict=True)),
    }


def _top(probabilities: np.ndarray) -> list[int]:
    """The labels of the most probable classes, most probable first, the lower label first of equals."""
    return [int(label) for label in np.argsort(-probabilities, kind="stable")[:_TOP]]


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{level:02x}" for level in colour)
