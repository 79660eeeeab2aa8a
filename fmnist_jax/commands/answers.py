"""The output for predicted pictures: a table, JSON or CSV, and a sheet or page that shows what the network saw."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fmnist_jax.analysis.classification import most_probable
from fmnist_jax.commands import cli
from fmnist_jax.commands.prediction import Picture, Report
from fmnist_jax.data import photo_files
from fmnist_jax.errors import DataError
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
    if not report.pictures:
        return
    if len(report.pictures) > _MAX_TABLE_PICTURES:
        counts = prediction_summary(report.probabilities, report.class_names, report.doubts)
        cli.print_rich(
            [
                counts,
                f"{len(report.pictures):,} pictures; use --csv or --json to list them, --show for what the network saw",
            ]
        )
        return
    names = [photo_files.printable(picture.name) for picture in report.pictures]
    backgrounds = [f"{picture.background.kind} {_hex(picture.background.colour)}" for picture in report.pictures]
    cli.print_rich([prediction_table(names, backgrounds, report.probabilities, report.class_names, report.doubts)])


def to_json(report: Report) -> str:
    """The report as one JSON document."""
    predictions = [
        _picture_to_dict(picture, probabilities, report.class_names) | {"unsure": list(doubts)}
        for picture, probabilities, doubts in _rows(report)
    ]
    document = {
        "run": str(report.run),
        "checkpoint": report.step,
        "tta": report.tta,
        "predictions": predictions,
        "skipped": [{"file": name, "reason": str(error)} for name, error in report.skipped],
    }
    return json.dumps(document, indent=2, allow_nan=False)


def to_csv(report: Report) -> str:
    """The report as comma-separated values: a header, and a row for each picture in the order named.

    The row of a skipped picture has only its path and the error.
    """
    rows: dict[str, Sequence[str]] = {name: _error_row(name, error) for name, error in report.skipped}
    for picture, probabilities, doubts in _rows(report):
        rows[picture.name] = _prediction_row(picture.name, probabilities, report.class_names, doubts)
    return _csv_text([_COLUMNS, *(rows[name] for name in report.names)])


def write_csv(path: Path, report: Report) -> None:
    """Writes the result of `to_csv` to a file.

    Raises:
      FmnistError: it cannot be written.
    """
    with directory_for_files(path.parent):
        write_text(path, to_csv(report))


def write_previews(path: Path, report: Report) -> None:
    """Writes a sheet or page of what the network saw of the first pictures; without pictures, nothing.

    Args:
      path: ends in `.png` or `.html`.
      report: of `prediction.run` with as many previews as `max_previews` returns for the path.

    Raises:
      FmnistError: it cannot be written.
    """
    cards = _preview_cards(report)
    if not cards:
        return
    with directory_for_files(path.parent):
        if _is_page(path):
            write_text(path, photo_page.render(_contents(report, cards)))
        else:
            write_figure(path, _sheet(report, cards))
    if len(cards) < len(report.pictures):
        output.warn(f"note: {path} shows the first {len(cards)} of {len(report.pictures)} pictures")


def _rows(report: Report) -> Iterator[tuple[Picture, np.ndarray, tuple[str, ...]]]:
    """Each picture with its probabilities and doubts."""
    return zip(report.pictures, report.probabilities, report.doubts, strict=True)


def _preview_cards(report: Report) -> list[photo_page.Card]:
    """The pictures that can be shown."""
    return [
        photo_page.Card(photo_files.printable(picture.name), *picture.preview, shares, doubts)
        for picture, shares, doubts in _rows(report)
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
        run=report.run.absolute().name,
        step=report.step,
        class_names=report.class_names,
        cards=cards,
        pictures=len(report.pictures),
        unsure=sum(map(bool, report.doubts)),
        skipped=[(photo_files.printable(name), str(error)) for name, error in report.skipped],
    )


def _error_row(name: str, error: DataError) -> list[str]:
    return [name, *[""] * (len(_COLUMNS) - 2), str(error)]


def _prediction_row(name: str, probabilities: np.ndarray, names: Sequence[str], doubts: Sequence[str]) -> list[str]:
    top = [
        cell for label in most_probable(probabilities, _TOP_K) for cell in (names[label], f"{probabilities[label]:.6f}")
    ]
    missing = [""] * (2 * _TOP_K - len(top))  # for a network with two classes
    return [name, *top, *missing, "yes" if doubts else "no", ", ".join(doubts), ""]


def _csv_text(rows: Iterable[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def _picture_to_dict(picture: Picture, probabilities: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
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
    }


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{level:02x}" for level in colour)
