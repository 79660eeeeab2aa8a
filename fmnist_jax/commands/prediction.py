"""Predictions of pictures, decoded and prepared one by one and predicted in batches, so that many need no more memory.

`answers` formats the results.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
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

_THUMBNAIL = 200  # pixels of the longer edge
_MAX_BATCH_SIZE = 250  # pictures in a batch of predictions, at most


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


class Report(NamedTuple):
    """A model's predictions for pictures."""

    run: Path
    step: int
    tta: TestTimeAugmentation
    class_names: Sequence[str]
    names: Sequence[str]
    """The names of all pictures, predicted or skipped, in the order in which they were named."""
    pictures: Sequence[Picture]
    probabilities: np.ndarray
    """f64[N, C], a row for each picture."""
    doubts: Sequence[tuple[str, ...]]
    """For each picture, why its prediction is unsure; empty if it is not."""
    skipped: Sequence[tuple[str, DataError]]
    """The names of the skipped pictures, and why."""


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
    pictures: list[Picture] = []
    skipped: list[tuple[str, DataError]] = []
    shares = [np.zeros((0, len(model.class_names)))]
    doubts: list[tuple[str, ...]] = []
    batch_size = min(_MAX_BATCH_SIZE, model.config.train.eval_batch_size)
    with cli.progress(len(found)) as advance:
        readable = _prepared_pictures(found, _make_prepare(model), max_previews, skipped, advance)
        while batch := list(islice(readable, batch_size)):
            # The first batch may be small; the last of several is padded, so that nothing is compiled for it.
            probabilities = _probabilities(model, batch, tta, rows=batch_size if pictures else len(batch))
            if _expects_garments(model):
                rows_and_reads = zip(probabilities, batch, strict=True)
                probabilities = np.stack(
                    [given_a_pair(row, read.doubts, model.class_names) for row, read in rows_and_reads]
                )
            shares.append(probabilities)
            doubts.extend(_doubts(model, read, row) for read, row in zip(batch, probabilities, strict=True))
            pictures.extend(read.picture for read in batch)
    all_names = [name for name, _ in found]
    return Report(
        directory, model.step, tta, model.class_names, all_names, pictures, np.concatenate(shares), doubts, skipped
    )


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


def _probabilities(
    model: Trained, batch: Sequence[_PreparedPicture], tta: TestTimeAugmentation, *, rows: int
) -> np.ndarray:
    images = np.zeros((rows, *model.image_shape), np.uint8)
    images[: len(batch)] = [read.image for read in batch]
    return softmax(model.predict(images, tta=tta)[: len(batch)].astype(np.float64), axis=-1)


def _doubts(model: Trained, read: _PreparedPicture, probabilities: np.ndarray) -> tuple[str, ...]:
    """Why a prediction is unsure; the known reasons apply to garments only."""
    if not _expects_garments(model):
        return ()
    return reasons_for_doubt(probabilities, read.doubts, model.class_names)


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


def _prepared_pictures(
    found: Iterable[tuple[str, DataError | None]],
    prepare: Callable[[np.ndarray], photos.Prepared],
    max_previews: int,
    skipped: list[tuple[str, DataError]],
    advance: Callable[[], None],
) -> Iterator[_PreparedPicture]:
    """Reads pictures; yields those that can be predicted, and adds to `skipped` why the others cannot."""
    previews_left = max_previews
    for name, problem in found:
        try:
            if problem is not None:
                raise problem
            read = _prepare_picture(name, prepare, with_look=previews_left > 0)
        except DataError as error:
            output.warn(f"skipped: {error}")
            skipped.append((name, error))
        else:
            previews_left -= 1
            yield read
        advance()


def _prepare_picture(
    name: str, prepare: Callable[[np.ndarray], photos.Prepared], *, with_look: bool
) -> _PreparedPicture:
    pixels, (width, height) = photo_files.read_reduced(name)
    prepared = prepare(pixels)
    if prepared.box is None:
        raise DataError(f"{photo_files.printable(name)} is blank: nothing stands out from its background")
    (rows, columns), (left, top, right, bottom) = pixels.shape[:2], prepared.box
    shares = (left / columns, top / rows, right / columns, bottom / rows)
    left, top, right, bottom = (round(share * edge) for share, edge in zip(shares, (width, height) * 2, strict=True))
    look = Preview(photos.thumbnail(pixels, _THUMBNAIL), shares, prepared.image) if with_look else None
    picture = Picture(name, prepared.background, (left, top, right, bottom), prepared.contrast, look)
    return _PreparedPicture(picture, prepared.image, prepared.doubts)
