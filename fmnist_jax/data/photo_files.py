"""Pictures from files, directories, patterns and standard input: found in a fixed order, and decoded defensively."""

import glob
import importlib
import io
import os
import stat
import struct
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fmnist_jax.config import paths
from fmnist_jax.errors import DataError
from fmnist_jax.system.packages import is_installed
from fmnist_jax.system.storage import is_own_figure

Decoded = TypeVar("Decoded")

STANDARD_INPUT = "-"
MAX_BYTES = 64_000_000
MAX_PIXELS = 64_000_000  # more than a phone's usual 48 to 50 million; decoded, this many take some 0.3 GB

# Only formats that hold pixels and no program: Pillow would hand PostScript to Ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"})
_FORMAT_NAMES = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC"
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_MIN_REDUCED_EDGE = 1000  # pixels that a reduced picture keeps of its longer edge, and a quarter of the shorter
_BAND = 64  # rows of a reduced picture that are computed at once


def find(names: Iterable[str]) -> Iterator[tuple[str, DataError | None]]:
    """Finds the pictures that arguments name, each once, in the order of the arguments.

    A directory gives the pictures directly in it, sorted by name, without hidden or other files; a name that is not a
    file may be a pattern (`*`, `?`, `[…]`, and `**` for directories at any depth); `-` is standard input.

    Yields:
      The path of a picture, or `-`, and None; or an argument that names no picture, and the error that says so.
    """
    seen: set[str] = set()
    for name in names:
        found = _resolve_name(name)
        if isinstance(found, DataError):
            yield name, found
            continue
        for path in found:
            key = path if path == STANDARD_INPUT else os.path.realpath(path)  # resolve() raises on circular links
            if key not in seen:
                seen.add(key)
                yield path, None


def _resolve_name(name: str) -> list[str] | DataError:
    if name == STANDARD_INPUT:
        return [name]
    name = str(paths.expand(name))  # a pattern is quoted, so no shell has done so
    if paths.scheme(name) is not None:
        return DataError(f"{printable(name)} is an address: download it, and give the file")
    try:
        path = Path(name)
        if path.is_dir():
            return _pictures_in(path) or DataError(f"{printable(name)} has no {_FORMAT_NAMES} picture in it")
        if path.exists() or not glob.has_magic(name):
            return [name]
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        by_match = [[match] if not Path(match).is_dir() else _pictures_in(Path(match)) for match in matches]
    except OSError as error:  # a directory that may not be read, a name that is too long
        return DataError(f"{printable(name)} cannot be read ({_reason(error)})")
    found = [picture for pictures in by_match for picture in pictures if not is_own_figure(Path(picture))]
    return found or DataError(f"{printable(name)} matches no picture")


def _pictures_in(directory: Path) -> list[str]:
    files = (path for path in directory.iterdir() if path.suffix.lower() in _SUFFIXES and path.name[0] != ".")
    return sorted(str(path) for path in files if not (path.is_dir() or is_own_figure(path)))


def printable(name: str) -> str:
    """A name as one line that any terminal can print."""
    return name if name.isprintable() else repr(name)[1:-1]


class Reduced(NamedTuple):
    """A picture with no more pixels than are useful."""

    pixels: np.ndarray
    """As returned by `read`."""
    size: tuple[int, int]
    """Width and height in the file, upright."""


def read(name: str) -> np.ndarray:
    """Decodes a picture, turned upright by its EXIF orientation; of an animation, the first frame.

    Args:
      name: a path, or `-` for standard input.

    Returns:
      u8 or u16 [H, W] or [H, W, C], where C is 2 (grey, alpha), 3 (colour) or 4 (colour, alpha).

    Raises:
      DataError: it cannot be read, is not a picture in a known format, is damaged, or is too large.
    """
    return _decode(*_read_with_label(name), _to_array)


def read_reduced(name: str) -> Reduced:
    """Decodes a picture as `read` does, shrunk by an integer factor while decoding where no useful detail is lost.

    Large pictures keep a longer edge of at least 1,000 pixels, and take little memory beyond their decoder's.
    """
    return _decode(*_read_with_label(name), _to_reduced)


def _read_with_label(name: str) -> tuple[bytes, str]:
    """The content of a file, and its name in messages."""
    label = "standard input" if name == STANDARD_INPUT else printable(name)
    try:
        content = _read_bytes(name)
    except (OSError, ValueError) as error:
        raise DataError(f"{label} cannot be read ({_reason(error)})") from error
    if not content:
        raise DataError(f"{label} is empty")
    if len(content) > MAX_BYTES:
        raise DataError(f"{label} has more than {MAX_BYTES:,} bytes: make it smaller")
    return content, label


def _read_bytes(name: str) -> bytes:
    """Reads a file, but at most one byte more than `MAX_BYTES`."""
    if name == STANDARD_INPUT:
        if sys.stdin is None:
            raise OSError("it is closed: pipe a picture into it")
        if sys.stdin.isatty():
            raise OSError("it is a terminal: pipe a picture into it")
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    path = Path(name)
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
        raise OSError("it is not a regular file")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _decode(content: bytes, label: str, convert: Callable[[Image.Image], Decoded]) -> Decoded:
    # `mif1` and `msf1` are also brands of AVIF files, which name `avif` among their compatible brands.
    heic = content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS and b"avif" not in content[16:64]
    if heic and not _register_heic():
        raise DataError(f"{label} is a HEIC picture: pip install pillow-heif, or save it as JPEG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd metadata, and about sizes that are limited below
            with Image.open(io.BytesIO(content), formats=("HEIF",) if heic else _FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise DataError(f"{label} has {width}x{height} pixels, more than {MAX_PIXELS:,}: make it smaller")
                return convert(image)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{label} is not a readable picture: expected {_FORMAT_NAMES}") from None
    except Image.DecompressionBombError:
        raise DataError(f"{label} has more than {MAX_PIXELS:,} pixels: make it smaller") from None
    except Exception as error:  # Pillow's decoders raise many types of error on damaged files
        raise DataError(f"{label} is damaged ({_reason(error)})") from error


def _register_heic() -> bool:
    """Enables Pillow to read HEIC, if `pillow_heif` is installed, and says whether it is."""
    if not is_installed("pillow_heif"):
        return False
    importlib.import_module("pillow_heif").register_heif_opener()
    return True


def _to_reduced(image: Image.Image) -> Reduced:
    width, height = image.size
    factor = _reduction_factor(width, height)
    image.draft(None, (width // factor, height // factor))  # affects only JPEG, whose decoder can skip detail
    factor = _reduction_factor(*image.size)
    small = image if factor == 1 else _reduce_in_bands(image, factor)
    pixels = _to_array(small)
    if (pixels.shape[0] > pixels.shape[1]) != (small.height > small.width):  # EXIF has turned it
        width, height = height, width
    return Reduced(pixels, (width, height))


def _reduction_factor(width: int, height: int) -> int:
    """The factor by which a picture can be shrunk."""
    return max(1, min(max(width, height) // _MIN_REDUCED_EDGE, min(width, height) // (_MIN_REDUCED_EDGE // 4)))


def _reduce_in_bands(image: Image.Image, factor: int) -> Image.Image:
    """Shrinks by averaging, a few rows at a time, so that only pictures with a key of colours are copied whole."""
    width, height = image.size
    # Indices into a palette cannot be averaged, nor can colours of which one means transparent.
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in ("1", "L", "RGB") and "transparency" in image.info:
        image = image.convert("RGBA" if image.mode == "RGB" else "LA")
    bands = []
    for top in range(0, height, _BAND * factor):
        band = image.crop((0, top, width, min(top + _BAND * factor, height)))
        is_16_bit = band.mode.startswith("I")
        band = band.convert("F") if is_16_bit else band.convert("L") if band.mode == "1" else band
        bands.append(band.reduce(factor).convert("I") if is_16_bit else band.reduce(factor))
    small = Image.new(bands[0].mode, (bands[0].width, sum(band.height for band in bands)))
    top = 0
    for band in bands:
        small.paste(band, (0, top))
        top += band.height
    exif = _exif(image)
    small.info.update(image.info)
    small.getexif().update(exif)
    return small


def _exif(image: Image.Image) -> Image.Exif:
    """The EXIF data, as far as they can be read; the raw data are dropped from the image."""
    image.load()
    with suppress(SyntaxError, struct.error, ValueError, KeyError, TypeError):
        image.getexif()
    for name in ("exif", "Raw profile type exif"):
        image.info.pop(name, None)
    return image.getexif()  # which does not parse it again


def _to_array(image: Image.Image) -> np.ndarray:
    """Converts an image of any mode to levels of grey or colour."""
    _exif(image)  # before `exif_transpose`, which fails on damaged EXIF data
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey
        levels = np.maximum(np.asarray(image), 0)
        levels = (levels // (1 + int(levels.max()) // 65536)).astype(np.uint16)  # files of 32 bits may have more
        # 12-bit cameras and scanners leave the upper four bits empty.
        return levels << 4 if levels.max() < 4096 else levels
    if image.mode == "F":  # levels of no fixed range: most tools write 0 to 1, some 0 to 255
        values = np.nan_to_num(np.asarray(image))
        scale = next((most for most in (1.0, 255.0) if values.max() <= most), 65535.0)
        return np.rint(65535 / scale * np.clip(values, 0, scale)).astype(np.uint16)
    grey, has_alpha = image.mode in ("1", "L", "LA", "La"), image.has_transparency_data
    mode = ("LA" if has_alpha else "L") if grey else ("RGBA" if has_alpha else "RGB")
    return np.asarray(image.convert(mode))


def _reason(error: Exception) -> str:
    """What an error says, as part of one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(" ".join(text.split()))
