"""Predictions of pictures, decoded and prepared one by one and predicted in batches, so that many need no more memory.

`answers` formats the results.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from fmnist_jax.analysis.certainty import given_a_pair, reasons_for_doubt
from fmnist_jax.commands import cli
from fmnist_jax.data import photo_files, photos
from fmnist_jax.data.silhouettes import Doubt
from fmnist_jax.errors import DataError, FmnistError
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.runs import trained
from fmnist_jax.runs.trained import TestTimeAugmentation, Trained
from fmnist_jax.system import output

_THUMBNAIL_EDGE = 200  # pixels of the longer edge
_MAX_BATCH_SIZE = 250  # pictures in a batch of predictions


class Preview(NamedTuple):
    """What `--show` displays of a picture."""

    thumbnail: np.ndarray
    """u8[h, w, 3]."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom of the object as fractions of the picture's width and height."""
    image: np.ndarray
    """u8[H, W, C], what the network saw."""


class Picture(NamedTuple):
    """What is known about a picture that could be read."""

    name: str
    background: photos.Background
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of the object in pixels of the file."""
    contrast: float
    """As in `photos.Prepared`."""
    preview: Preview | None
    """Only for the first pictures, as many as requested."""


class Prediction(NamedTuple):
    """What a model makes of a picture."""

    picture: Picture
    probabilities: np.ndarray
    """f64[C]."""
    doubts: tuple[str, ...]
    """Why it is unsure; empty if it is not."""


class Skipped(NamedTuple):
    """A picture that cannot be predicted."""

    name: str
    reason: str


class Report(NamedTuple):
    """A model's predictions for pictures."""

    run: Path
    step: int
    tta: TestTimeAugmentation
    class_names: Sequence[str]
    names: Sequence[str]
    """The names of all pictures, predicted or skipped, in the order in which they were named."""
    predictions: Sequence[Prediction]
    skipped: Sequence[Skipped]


class _PreparedPicture(NamedTuple):
    picture: Picture
    image: np.ndarray
    doubts: tuple[Doubt, ...]


def run(
    directory: Path,
    names: Sequence[str],
    which: str = "latest",
    tta: TestTimeAugmentation = "none",
    *,
    max_previews: int = 0,
    written: Mapping[str, Path | None] | None = None,
) -> Report:
    """Predicts pictures, and names on standard error those that it skips.

    Args:
      directory: the run's directory.
      names: which pictures, as for `photo_files.find`.
      which: the checkpoint, as for `trained.load_trained`.
      tta: as for `Trained.predict`.
      max_previews: for how many pictures to keep a `Preview`.
      written: the output files, by the flags that name them.

    Raises:
      FmnistError: there is no such run or checkpoint, or a picture would be overwritten.
    """
    model = trained.load_trained(directory, which)
    found = list(photo_files.find(names))
    refuse_pictures(written or {}, [name for name, problem in found if problem is None])
    predictions: list[Prediction] = []
    skipped: list[Skipped] = []
    batch: list[_PreparedPicture] = []
    batch_size = min(_MAX_BATCH_SIZE, model.config.train.eval_batch_size)
    with cli.progress(len(found)) as advance:
        for prepared in _prepare_pictures(found, _make_prepare(model), max_previews):
            if isinstance(prepared, Skipped):
                output.warn(f"skipped: {prepared.reason}")
                skipped.append(prepared)
            else:
                batch.append(prepared)
            if len(batch) == batch_size:
                predictions += _predict(model, batch, tta, rows=batch_size)
                batch = []
            advance()
        if batch:
            # The last batch of several is padded, so that nothing is compiled for it.
            predictions += _predict(model, batch, tta, rows=batch_size if predictions else len(batch))
    return Report(directory, model.step, tta, model.class_names, [name for name, _ in found], predictions, skipped)


def refuse_pictures(written: Mapping[str, Path | None], names: Sequence[str]) -> None:
    """Checks that no output file would overwrite a picture or another output file.

    Raises:
      FmnistError: one would.
    """
    used_by = {os.path.realpath(name): "one of the pictures" for name in names}
    for flag, path in written.items():
        if path is None or (path.exists() and not path.is_file()):  # such as a terminal, to which both may go
            continue
        if (what := used_by.get(real_path := os.path.realpath(path))) is not None:
            raise FmnistError(f"{flag} is {path}, {what}: choose another {flag}")
        used_by[real_path] = f"the same as {flag}"


def _predict(
    model: Trained, batch: Sequence[_PreparedPicture], tta: TestTimeAugmentation, *, rows: int
) -> Iterator[Prediction]:
    """Predicts a batch of pictures, padded to a number of rows."""
    images = np.zeros((rows, *model.image_shape), np.uint8)
    images[: len(batch)] = [prepared.image for prepared in batch]
    probabilities = softmax(model.predict(images, tta=tta)[: len(batch)].astype(np.float64), axis=-1)
    for prepared, row in zip(batch, probabilities, strict=True):
        if _expects_garments(model):  # what is known of a picture says something about garments only
            revised = given_a_pair(row, prepared.doubts, model.class_names)
            reasons = reasons_for_doubt(revised, prepared.doubts, model.class_names)
            yield Prediction(prepared.picture, revised, reasons)
        else:
            yield Prediction(prepared.picture, row, ())


def _expects_garments(model: Trained) -> bool:
    """Whether the images are garments in the style of Fashion-MNIST, under any name, and not digits of that size."""
    garments = model.config.data.name in photos.FRAMES or model.class_names == CLASS_NAMES
    return garments and model.image_shape == (photos.SIZE, photos.SIZE, 1)


def _make_prepare(model: Trained) -> Callable[[np.ndarray], photos.Prepared]:
    """How a picture becomes an image of the run's shape: garments are located in it, else its whole middle is taken."""
    if _expects_garments(model):
        frame = photos.FRAMES.get(model.config.data.name, photos.FRAMES["fashion_mnist"])
        return lambda pixels: photos.to_dataset_image(pixels, frame)
    return lambda pixels: photos.to_shape(pixels, model.image_shape)


def _prepare_pictures(
    found: Iterable[tuple[str, DataError | None]], prepare: Callable[[np.ndarray], photos.Prepared], max_previews: int
) -> Iterator[_PreparedPicture | Skipped]:
    """Reads and prepares pictures, the first few with previews, or says why one cannot be predicted."""
    previews_left = max_previews
    for name, problem in found:
        try:
            if problem is not None:
                raise problem
            prepared = _prepare_picture(name, prepare, with_preview=previews_left > 0)
        except DataError as error:
            yield Skipped(name, str(error))  # not the error, whose traceback holds the decoded picture
        else:
            previews_left -= 1
            yield prepared


def _prepare_picture(
    name: str, prepare: Callable[[np.ndarray], photos.Prepared], *, with_preview: bool
) -> _PreparedPicture:
    pixels, (width, height) = photo_files.read_reduced(name)
    prepared = prepare(pixels)
    if prepared.box is None:
        raise DataError(f"{photo_files.printable(name)} is blank: nothing stands out from its background")
    (rows, columns), (left, top, right, bottom) = pixels.shape[:2], prepared.box
    fractions = (left / columns, top / rows, right / columns, bottom / rows)
    left, top, right, bottom = (
        round(fraction * edge) for fraction, edge in zip(fractions, (width, height) * 2, strict=True)
    )
    preview = Preview(photos.thumbnail(pixels, _THUMBNAIL_EDGE), fractions, prepared.image) if with_preview else None
    picture = Picture(name, prepared.background, (left, top, right, bottom), prepared.contrast, preview)
    return _PreparedPicture(picture, prepared.image, prepared.doubts)
