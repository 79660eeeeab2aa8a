"""Scores runs on photos of garments, prepared as by predict or by tutorials: `python -m experiments.photos DIR RUN…`.

The directory holds photos and `labels.csv` with the columns file, accepted (several classes separated by `|` where
people would disagree) and kind. A prediction is correct if the most probable class is an accepted one, and correct
among three if any of the three most probable is. The accuracy on the photos that `predict` does not mark as unsure is
printed, too. Tutorials turn a photo grey, shrink it to 28x28 whatever its proportions, and take the negative.
"""

import csv
import io
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import tyro
from PIL import Image, ImageOps
from scipy.special import softmax

from experiments.script import run_script
from fmnist_jax import (
    CLASS_NAMES,
    FRAMES,
    FmnistError,
    Frame,
    Prepared,
    Trained,
    given_a_pair,
    load_trained,
    reasons_for_doubt,
    to_dataset_image,
    wilson_interval,
)

Pixels = np.ndarray
"""u8[H, W, 3]."""

NetworkInput = tuple[np.ndarray, Sequence[str]]
"""The network's input, u8[28, 28, 1], and the doubts that arose in preparing it."""

_COLUMNS = ("file", "accepted", "kind")
_HELD_BACK_STRIDE = 3  # every third photo by name is never used to make choices


@dataclass(frozen=True)
class Arguments:
    """Scores runs on photos of garments."""

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Photos, and labels.csv."""
    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]
    """Directories of runs."""
    part: Literal["all", "development", "held-back"] = "all"
    """Which photos: all, those that choices may be based on, or every third by name, which is held back from them."""
    tta: Literal["none", "mirror"] = "none"
    """mirror: average the logits of each image and its mirror image."""


class Photo(NamedTuple):
    """A labelled picture."""

    path: Path
    accepted: frozenset[str]
    """Names of classes."""
    kind: str


class Score(NamedTuple):
    """How many pictures of a kind were classified correctly."""

    kind: str
    top1: int
    top3: int
    photos: int
    confident: int
    """Those that `predict` would not mark as unsure."""
    confident_top1: int


def read_labelled_photos(directory: Path, part: str = "all") -> list[Photo]:
    """Reads `labels.csv`, sorted by file name.

    Raises:
      FmnistError: a file, a column or a cell is missing, a class is unknown, or the part has no photo.
    """
    table = directory / "labels.csv"
    if not table.is_file():
        raise FmnistError(
            f"{table} is missing: give a directory with photos and labels.csv, as the module's docstring describes"
        )
    try:
        text = table.read_text(encoding="utf-8-sig")  # spreadsheets begin their UTF-8 with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise FmnistError(f"{table} cannot be read ({error}): save it as CSV in UTF-8") from error
    reader = csv.DictReader(io.StringIO(text))
    if missing := sorted({*_COLUMNS} - {*(reader.fieldnames or ())}):
        raise FmnistError(f"{table} has no column {', '.join(missing)}: write it as the module's docstring describes")
    rows = list(reader)
    for row in rows:
        if missing := [name for name in _COLUMNS if not row[name]]:
            cells = ",".join(cell for cell in row.values() if cell is not None)
            raise FmnistError(f"{table} has the row {cells!r}, without {', '.join(missing)}: complete it, or remove it")
    rows.sort(key=lambda row: row["file"])
    photos = [Photo(directory / row["file"], frozenset(row["accepted"].split("|")), row["kind"]) for row in rows]
    for photo in photos:
        if not photo.path.is_file():
            raise FmnistError(f"{table} names {photo.path.name}, which is missing: add the file, or remove its row")
        if not photo.accepted <= set(CLASS_NAMES):
            raise FmnistError(f"{photo.path.name} accepts {sorted(photo.accepted)}: expected some of {CLASS_NAMES}")
    held_back = photos[_HELD_BACK_STRIDE - 1 :: _HELD_BACK_STRIDE]
    parts = {
        "all": photos,
        "held-back": held_back,
        "development": [photo for photo in photos if photo not in held_back],
    }
    if not parts[part]:
        raise FmnistError(f"{table} has {len(photos)} photos, none in the part {part!r}: choose another part")
    return parts[part]


def load_garment_run(run: Path) -> tuple[Trained, Frame]:
    """Loads a run, and finds where on its images the garments are placed.

    Raises:
      FmnistError: it has other classes or images than Fashion-MNIST, or `load_trained` raises it.
    """
    model = load_trained(run)
    if (model.image_shape, model.class_names) != ((28, 28, 1), CLASS_NAMES):
        shape = "x".join(map(str, model.image_shape))
        raise FmnistError(
            f"{run} classifies images of {shape} as {', '.join(model.class_names[:10])}: give a run with the images "
            "and classes of Fashion-MNIST"
        )
    return model, FRAMES.get(model.config.data.name, FRAMES["fashion_mnist"])


def prepare_like_predict(pixels: Pixels, frame: Frame) -> NetworkInput:
    """Prepares a picture as `fmnist_jax.predict` does for a run whose garments are placed in this frame."""
    prepared: Prepared = to_dataset_image(pixels, frame)
    return prepared.image, prepared.doubts


def prepare_like_tutorials(pixels: Pixels) -> NetworkInput:
    """The negative of the whole picture in grey, squeezed into 28x28."""
    return 255 - np.asarray(Image.fromarray(pixels).convert("L").resize((28, 28)))[..., None], ()


def preparations(frame: Frame) -> Mapping[str, Callable[[Pixels], NetworkInput]]:
    """The preparations to compare, by name."""
    return {"predict": partial(prepare_like_predict, frame=frame), "tutorials": prepare_like_tutorials}


def prepare_all(photos: Iterable[Photo], prepare: Callable[[Pixels], NetworkInput]) -> tuple[list[NetworkInput], float]:
    """Reads and prepares pictures; also returns the CPU seconds per picture.

    Raises:
      FmnistError: a file is not a picture, or damaged.
    """
    start = time.process_time()
    inputs = []
    for photo in photos:
        inputs.append(prepare(_read_pixels(photo.path)))
    return inputs, (time.process_time() - start) / len(inputs)


def _read_pixels(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    # What Pillow raises of a damaged file depends on its format.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FmnistError(
            f"{path} cannot be read as a picture ({error}): replace it, or remove its row in labels.csv"
        ) from error


def score_photos(photos: Sequence[Photo], probabilities: np.ndarray, doubts: Sequence[Sequence[str]]) -> list[Score]:
    """Counts correct predictions for each kind, in alphabetical order.

    Args:
      photos: N.
      probabilities: f[N, 10].
      doubts: the doubts about each of the pictures.
    """
    ranked = np.argsort(-probabilities, axis=-1, kind="stable")[:, :3]
    accepted = zip(photos, ranked, strict=True)
    hits = np.array([[CLASS_NAMES[label] in photo.accepted for label in labels] for photo, labels in accepted])
    rows = zip(probabilities, doubts, strict=True)
    confident = np.array([not reasons_for_doubt(row, row_doubts, CLASS_NAMES) for row, row_doubts in rows])
    kinds = np.array([photo.kind for photo in photos])
    return [
        Score(
            kind,
            top1=int(hits[kinds == kind, 0].sum()),
            top3=int(hits[kinds == kind].any(-1).sum()),
            photos=int((kinds == kind).sum()),
            confident=int(confident[kinds == kind].sum()),
            confident_top1=int((confident & hits[:, 0])[kinds == kind].sum()),
        )
        for kind in sorted(set(kinds.tolist()))
    ]


def main(arguments: Arguments) -> None:
    """Prints a line for each run, preparation and kind.

    Raises:
      FmnistError: no run is named, or `read_labelled_photos`, `prepare_all` or `load_garment_run` raises it.
    """
    if not arguments.runs:
        raise FmnistError("no run is given: add the run directories to score")
    photos = read_labelled_photos(arguments.directory, arguments.part)
    models = [(run, *load_garment_run(run)) for run in arguments.runs]
    prepared: dict[Frame, dict[str, tuple[list[NetworkInput], float]]] = {}
    for run, model, frame in models:
        if frame not in prepared:
            prepared[frame] = {name: prepare_all(photos, prepare) for name, prepare in preparations(frame).items()}
        for name, (inputs, seconds) in prepared[frame].items():
            print(f"{run.name}, prepared as by {name} ({1000 * seconds:.1f} ms of CPU time per picture):")
            logits = model.predict(np.stack([image for image, _ in inputs]), tta=arguments.tta)
            doubts = [row_doubts for _, row_doubts in inputs]
            rows = zip(softmax(logits, axis=-1), doubts, strict=True)
            probabilities = np.stack([given_a_pair(row, row_doubts, CLASS_NAMES) for row, row_doubts in rows])
            for score in score_photos(photos, probabilities, doubts):
                print(f"  {score.kind}: first {_format_share(score.top1, score.photos)}", end=", ")
                print(f"among three {_format_share(score.top3, score.photos)}", end=", ")
                print(f"first of those not marked unsure {_format_share(score.confident_top1, score.confident)}")


def _format_share(correct: int, total: int) -> str:
    if not total:
        return "0 of 0"
    low, high = wilson_interval(correct, total)
    return f"{correct} of {total}, {correct / total:.0%} (95% interval {low:.0%} to {high:.0%})"


if __name__ == "__main__":
    run_script(main, Arguments)
