import contextlib
import io
import os
import struct
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fmnist_jax.data import photo_files
from fmnist_jax.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def write(path: Path, image: Image.Image | None = None, **options: Any) -> Path:
    (image or Image.fromarray(PIXELS)).save(path, **options)
    return path


def found(*names: str | Path) -> list[str]:
    return [f"{name}: {problem}" if problem else name for name, problem in photo_files.find(map(str, names))]


def refused(name: str | Path) -> str:
    with pytest.raises(DataError) as caught:
        photo_files.read(str(name))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "c.webp", "d.gif", "e.jpeg"):
        write(tmp_path / name)
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "inner.png").mkdir()
    write(tmp_path / "inner.png" / "f.png")
    return tmp_path


def test_a_directory_gives_its_pictures_by_name(folder: Path) -> None:
    names = ["a.JPG", "b.png", "c.webp", "d.gif", "e.jpeg"]
    assert found(folder) == [str(folder / name) for name in names]


def test_a_pattern_gives_its_matches_by_name(folder: Path) -> None:
    assert found(folder / "*.g*") == [str(folder / "d.gif")]
    assert found(folder / "[ab].*") == [str(folder / "a.JPG"), str(folder / "b.png")]
    assert found(folder / "**" / "f.png") == [str(folder / "inner.png" / "f.png")]
    assert found(folder / "*.png") == [str(folder / "b.png"), str(folder / "inner.png" / "f.png")]


def test_each_picture_is_found_once_in_the_order_of_the_arguments(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder / "c.webp")
    expected = [str(folder / "c.webp"), "-", *(str(folder / name) for name in ("a.JPG", "b.png", "d.gif", "e.jpeg"))]
    assert found(folder / "c.webp", "-", folder, "-", folder / "link.png", f"{folder}/./b.png") == expected


def test_a_name_with_the_signs_of_a_pattern_is_that_file(tmp_path: Path) -> None:
    path = write(tmp_path / "shirt [1].png")
    assert found(path) == [str(path)]


def test_arguments_that_name_nothing_are_told(tmp_path: Path) -> None:
    assert found(tmp_path) == [
        f"{tmp_path}: {tmp_path} has no PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC picture in it"
    ]
    assert found(tmp_path / "*.png") == [f"{tmp_path}/*.png: {tmp_path}/*.png matches no picture"]
    assert found(tmp_path / "missing.png") == [str(tmp_path / "missing.png")]
    assert "No such file" in refused(tmp_path / "missing.png")
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    assert "circle.png cannot be read" in refused(found(tmp_path / "circle.png")[0])
    assert "cannot be read" in found("x" * 5000)[0]


@pytest.mark.parametrize("suffix", ["png", "webp", "gif", "jpg"])
def test_each_format_is_read(tmp_path: Path, suffix: str) -> None:
    flat = Image.new("RGB", (30, 20), (200, 40, 90))
    pixels = photo_files.read(str(write(tmp_path / f"flat.{suffix}", flat)))
    assert pixels.shape == (20, 30, 3)
    np.testing.assert_allclose(pixels[10, 15].astype(int), (200, 40, 90), atol=6)


@pytest.mark.parametrize(
    ("mode", "shape", "dtype"),
    [
        ("1", (6, 9), np.uint8),
        ("L", (6, 9), np.uint8),
        ("LA", (6, 9, 2), np.uint8),
        ("P", (6, 9, 3), np.uint8),
        ("RGB", (6, 9, 3), np.uint8),
        ("RGBA", (6, 9, 4), np.uint8),
        ("I;16", (6, 9), np.uint16),
    ],
)
def test_each_kind_of_pixel_is_read(tmp_path: Path, mode: str, shape: tuple[int, ...], dtype: type) -> None:
    image = Image.fromarray(PIXELS)
    if mode == "I;16":
        image = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 200)
    pixels = photo_files.read(str(write(tmp_path / "x.png", image if mode == "I;16" else image.convert(mode))))
    assert pixels.shape == shape
    assert pixels.dtype == dtype
    if mode == "I;16":
        np.testing.assert_array_equal(pixels, PIXELS[..., 0].astype(np.uint16) * 200)


def test_a_palette_with_a_transparent_colour_has_alpha(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 255, 10, 20, 30])
    image.putpixel((1, 2), 1)
    pixels = photo_files.read(str(write(tmp_path / "x.png", image, transparency=0)))
    assert pixels.shape == (4, 4, 4)
    assert pixels[2, 1].tolist() == [10, 20, 30, 255]
    assert (pixels[..., 3] == 0).sum() == 15


def test_a_cmyk_photo_becomes_colour(tmp_path: Path) -> None:
    assert photo_files.read(str(write(tmp_path / "x.jpg", Image.new("CMYK", (8, 8))))).shape == (8, 8, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    upright = Image.new("L", (32, 16), 0)
    upright.paste(255, (0, 0, 8, 8))
    # What must be done to the stored picture so that turning it by its orientation gives the upright one.
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x112] = orientation
    pixels = photo_files.read(str(write(tmp_path / "x.png", stored, exif=exif)))
    np.testing.assert_array_equal(pixels, np.asarray(upright))


def _orientation_and_no_number() -> bytes:
    """EXIF that turns the picture, beside a width that is a word and cannot be written again."""
    exif = Image.Exif()
    exif[0x112] = 6
    exif[0x10F] = "wide"  # the maker, whose tag becomes that of the width
    return exif.tobytes().replace(b"\x0f\x01", b"\x00\x01", 1)


@pytest.mark.parametrize("edge", [16, 2000])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize(
    "damaged",
    [b"no header at all", b"Exif\0\0II*\0\x08\0\0", _orientation_and_no_number()],
    ids=["none", "cut", "word"],
)
def test_a_picture_is_whole_though_what_is_written_beside_it_is_not(
    tmp_path: Path, suffix: str, damaged: bytes, edge: int
) -> None:
    path = write(tmp_path / f"x.{suffix}", Image.new("RGB", (edge, edge), (10, 200, 30)), exif=damaged, dpi=(72, 72))
    pixels = photo_files.read_reduced(str(path)).pixels
    assert len(pixels) in (16, 1000)
    assert np.abs(pixels[:9, :9].astype(int) - (10, 200, 30)).max() <= 2


@pytest.mark.parametrize("edge", [16, 2000])
def test_a_picture_with_a_damaged_profile_of_text_is_whole(tmp_path: Path, edge: int) -> None:
    about = PngImagePlugin.PngInfo()
    about.add_text("Raw profile type exif", "\nexif\n      4\nzzzz\n", zip=True)
    path = write(tmp_path / "x.png", Image.new("RGB", (edge, edge), (10, 200, 30)), pnginfo=about)
    assert photo_files.read_reduced(str(path)).pixels[3, 3].tolist() == [10, 200, 30]


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    path = write(tmp_path / "x.gif", frames[0], save_all=True, append_images=frames[1:])
    assert photo_files.read(str(path))[0, 0].tolist() == [250, 0, 0]


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = write(tmp_path / "x.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False))
    np.testing.assert_array_equal(photo_files.read("-"), PIXELS)
    assert refused("-") == "standard input is empty"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    assert "terminal" in refused("-")
    monkeypatch.setattr(sys, "stdin", None)
    assert refused("-") == "standard input cannot be read (it is closed: pipe a picture into it)"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.png").read_bytes()
    for name, content, words in (
        ("empty.png", b"", "is empty"),
        (
            "text.png",
            b"This is no picture.",
            "is not a readable picture: expected PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC",
        ),
        ("cut.png", whole[: len(whole) // 2], "is damaged"),
        ("vector.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "is not a readable picture"),
        ("x.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a readable picture"),
    ):
        (tmp_path / name).write_bytes(content)
        message = refused(tmp_path / name)
        assert message.startswith(f"{tmp_path / name} ")
        assert words in message
    os.mkfifo(tmp_path / "pipe.png")
    assert "it is not a regular file" in refused(tmp_path / "pipe.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tiff"])
def test_no_cut_or_flipped_byte_gets_past_as_another_error(tmp_path: Path, suffix: str) -> None:
    whole = write(tmp_path / f"x.{suffix}").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged"
    messages = []
    for length in rng.integers(0, len(whole), 40):
        damaged = bytearray(whole)
        damaged[length] ^= int(rng.integers(1, 256))
        for content in (whole[:length], bytes(damaged)):
            path.write_bytes(content)
            with contextlib.suppress(DataError):
                assert photo_files.read(str(path)).size
                continue
            messages.append(refused(path))
    assert messages


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(8001, 8000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(*size))
    message = refused(tmp_path / "bomb.png")
    assert "64,000,000" in message
    assert message.endswith("make it smaller")


def test_a_file_with_too_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.png")
    monkeypatch.setattr(photo_files, "MAX_BYTES", path.stat().st_size)
    photo_files.read(str(path))
    monkeypatch.setattr(photo_files, "MAX_BYTES", path.stat().st_size - 1)
    assert "bytes: make it smaller" in refused(path)


def test_a_name_is_shown_in_one_line_that_every_terminal_can_print() -> None:
    assert photo_files.printable("hemd ü.png") == "hemd ü.png"
    for name in ("a\nb.png", "\x1b[31mred", os.fsdecode(b"\xff.png")):
        shown = photo_files.printable(name)
        assert shown.isprintable()
        shown.encode()


@pytest.mark.parametrize("suffix", ["bmp", "tif"])
def test_scans_are_read(tmp_path: Path, suffix: str) -> None:
    np.testing.assert_array_equal(photo_files.read(str(write(tmp_path / f"x.{suffix}"))), PIXELS)


def test_twelve_bits_fill_sixteen(tmp_path: Path) -> None:
    levels = np.array([[0, 4095], [2048, 16]], np.uint16)
    for file, expected in (("twelve.png", levels << 4), ("sixteen.tif", levels * 16 + 15)):
        stored = levels if file == "twelve.png" else expected
        read = photo_files.read(str(write(tmp_path / file, Image.fromarray(stored))))
        np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("most", [1.0, 255.0, 65535.0])
def test_floating_levels_are_read_whatever_their_range(tmp_path: Path, most: float) -> None:
    levels = np.linspace(0, most, 6, dtype=np.float32).reshape(2, 3)
    read = photo_files.read(str(write(tmp_path / "x.tif", Image.fromarray(levels))))
    np.testing.assert_array_equal(read, np.linspace(0, 65535, 6).reshape(2, 3).astype(np.uint16))


def test_heic_is_read_or_the_message_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    assert refused(tmp_path / "x.heic").endswith(
        "x.heic is a HEIC picture: pip install pillow-heif, or save it as JPEG"
    )


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_picture_is_shrunk_while_it_is_read(tmp_path: Path, suffix: str, orientation: int) -> None:
    pixels = np.full((2600, 4000, 3), 240, np.uint8)
    pixels[1000:2000, 500:1500] = (200, 30, 60)
    exif = Image.Exif()
    exif[0x112] = orientation
    path = write(tmp_path / f"x.{suffix}", Image.fromarray(pixels), exif=exif)
    reduced = photo_files.read_reduced(str(path))
    whole = photo_files.read(str(path))
    assert reduced.size == (whole.shape[1], whole.shape[0])
    assert max(reduced.pixels.shape) in range(1000, 2001)
    expected = Image.fromarray(whole).resize(reduced.pixels.shape[1::-1], Image.Resampling.BOX)
    assert np.abs(np.asarray(expected).astype(int) - reduced.pixels).mean() < 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_any_large_picture_is_shrunk_to_what_the_whole_one_shows(tmp_path: Path, mode: str) -> None:
    levels = np.full((1400, 3000), 50_000, np.uint16)
    levels[300:900, 400:1200] = 9_000
    eight = Image.fromarray((levels >> 8).astype(np.uint8))
    image = Image.fromarray(levels) if mode == "I;16" else eight.convert(mode)
    path = str(write(tmp_path / ("x.tif" if mode == "CMYK" else "x.png"), image))
    reduced, whole = photo_files.read_reduced(path).pixels, photo_files.read(path)
    assert reduced.dtype == whole.dtype
    assert reduced.shape[2:] == whole.shape[2:]
    assert max(reduced.shape) < 2600
    assert abs(float(reduced.mean()) - float(whole.mean())) < 0.01 * float(whole.max())


def test_a_small_picture_is_read_as_it_is(tmp_path: Path) -> None:
    pixels, size = photo_files.read_reduced(str(write(tmp_path / "x.png")))
    np.testing.assert_array_equal(pixels, PIXELS)
    assert size == (9, 6)
