"""The output for predicted pictures: a table, JSON or CSV, and a sheet or page that shows what the network saw."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fmnist_jax.analysis.classification import most_probable
from fmnist_jax.commands import cli
from fmnist_jax.commands.prediction import Prediction, Report, Skipped
from fmnist_jax.config import paths
from fmnist_jax.data import photo_files
from fmnist_jax.system import output
from fmnist_jax.system.storage import directory_for_files, write_figure, write_text
from fmnist_jax.views import photo_page
from fmnist_jax.views.photos import photo_sheet
from fmnist_jax.views.tables import prediction_summary, prediction_table

_TOP_K = 3
_MAX_TABLE_PICTURES = 30  # pictures; a longer table fills more screens than anybody reads
_MAX_SHEET_PICTURES = 60  # pictures; more make a file that few viewers open
_MAX_PAGE_PICTURES = 500  # pictures, of about 10 KB each
_COLUMNS = (
    *("path", "class", "probability", "second", "second_probability", "third", "third_probability"),
    *("unsure", "reason", "error"),
)


def max_previews(path: Path | None) -> int:
    """The maximum number of pictures in a sheet (`.png`) or a page (`.html`); 0 without a file."""
    if path is None:
        return 0
    return _MAX_PAGE_PICTURES if _is_page(path) else _MAX_SHEET_PICTURES


def _is_page(path: Path) -> bool:
    return path.suffix.lower() == ".html"


def print_table(report: Report) -> None:
    """Prints the three most probable classes of each picture, its background and doubts; for many, only counts."""
    if not report.predictions:
        return
    pictures = [prediction.picture for prediction in report.predictions]
    probabilities = np.stack([prediction.probabilities for prediction in report.predictions])
    doubts = [prediction.doubts for prediction in report.predictions]
    if len(pictures) > _MAX_TABLE_PICTURES:
        cli.print_rich(
            [
                prediction_summary(probabilities, report.class_names, doubts),
                f"{len(pictures):,} pictures; use --csv or --json to list them, --show for what the network saw",
            ]
        )
        return
    names = [photo_files.printable(picture.name) for picture in pictures]
    backgrounds = [f"{picture.background.kind} {_hex(picture.background.colour)}" for picture in pictures]
    cli.print_rich([prediction_table(names, backgrounds, probabilities, report.class_names, doubts)])


def to_json(report: Report) -> str:
    """The report as one JSON document."""
    document = {
        "run": str(report.run),
        "checkpoint": report.step,
        "tta": report.tta,
        "predictions": [_prediction_to_dict(prediction, report.class_names) for prediction in report.predictions],
        "skipped": [{"file": name, "reason": reason} for name, reason in report.skipped],
    }
    return json.dumps(document, indent=2, allow_nan=False)


def to_csv(report: Report) -> str:
    """The report as comma-separated values: a header, and a row for each picture in the order named.

    The row of a skipped picture has only its path and the error.
    """
    rows: dict[str, Sequence[str]] = {skipped.name: _skipped_row(skipped) for skipped in report.skipped}
    for prediction in report.predictions:
        rows[prediction.picture.name] = _prediction_row(prediction, report.class_names)
    return _csv_text([_COLUMNS, *(rows[name] for name in report.names)])


def write_csv(path: Path, report: Report) -> None:
    """Writes the result of `to_csv` to a file.

    Raises:
      FmnistError: it cannot be written.
    """
    with directory_for_files(path.parent):
        write_text(path, to_csv(report))


def write_previews(path: Path, report: Report) -> None:
    """Writes a sheet or page of what the network saw of the first pictures; without pictures, no sheet.

    Args:
      path: ends in `.png` or `.html`.
      report: of `prediction.run` with as many previews as `max_previews` returns for the path.

    Raises:
      FmnistError: it cannot be written.
    """
    cards = _preview_cards(report)
    if not cards and not _is_page(path):
        output.warn(f"note: {path} was not written, as there is no picture to show")
        return
    with directory_for_files(path.parent):
        if _is_page(path):
            write_text(path, photo_page.render(_contents(report, cards)))
        else:
            write_figure(path, _sheet(report, cards))
    if len(cards) < len(report.predictions):
        output.warn(f"note: {path} shows the first {len(cards)} of {len(report.predictions)} pictures")


def _preview_cards(report: Report) -> list[photo_page.Card]:
    """The pictures that can be shown."""
    return [
        photo_page.Card(photo_files.printable(picture.name), *picture.preview, probabilities, doubts)
        for picture, probabilities, doubts in report.predictions
        if picture.preview is not None
    ]


def _sheet(report: Report, cards: Sequence[photo_page.Card]) -> Figure:
    return photo_sheet(
        [card.thumbnail for card in cards],
        [card.box for card in cards],
        np.stack([card.image for card in cards]),
        np.stack([card.probabilities for card in cards]),
        report.class_names,
        doubts=[card.doubts for card in cards],
    )


def _contents(report: Report, cards: Sequence[photo_page.Card]) -> photo_page.Contents:
    return photo_page.Contents(
        run=paths.display_name(report.run),
        step=report.step,
        class_names=report.class_names,
        cards=cards,
        picture_count=len(report.predictions),
        unsure_count=sum(bool(prediction.doubts) for prediction in report.predictions),
        skipped=[(photo_files.printable(name), reason) for name, reason in report.skipped],
    )


def _skipped_row(skipped: Skipped) -> list[str]:
    return [skipped.name, *[""] * (len(_COLUMNS) - 2), skipped.reason]


def _prediction_row(prediction: Prediction, names: Sequence[str]) -> list[str]:
    picture, probabilities, doubts = prediction
    top = [
        cell for label in most_probable(probabilities, _TOP_K) for cell in (names[label], f"{probabilities[label]:.6f}")
    ]
    missing = [""] * (2 * _TOP_K - len(top))  # for a network with two classes
    return [picture.name, *top, *missing, "yes" if doubts else "no", ", ".join(doubts), ""]


def _csv_text(rows: Iterable[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def _prediction_to_dict(prediction: Prediction, names: Sequence[str]) -> dict[str, Any]:
    picture, probabilities, doubts = prediction
    top = [
        {"label": label, "name": names[label], "probability": float(probabilities[label])}
        for label in most_probable(probabilities, _TOP_K)
    ]
    return {
        "file": picture.name,
        "background": {"kind": picture.background.kind, "colour": _hex(picture.background.colour)},
        "box": picture.box,
        "contrast": picture.contrast,
        "top": top,
        "probabilities": dict(zip(names, map(float, probabilities), strict=True)),
        "unsure": list(doubts),
    }


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{level:02x}" for level in colour)
