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
from PIL import Image, PngImagePlugin, features

from fmnist_jax.data import photo_files
from fmnist_jax.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def write_image(path: Path, image: Image.Image | None = None, **options: Any) -> Path:
    (image or Image.fromarray(PIXELS)).save(path, **options)
    return path


def find_names(*names: str | Path) -> list[str]:
    return [f"{name}: {problem}" if problem else name for name, problem in photo_files.find(map(str, names))]


def read_error(name: str | Path) -> str:
    with pytest.raises(DataError) as exc_info:
        photo_files.read(str(name))
    message = str(exc_info.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "c.webp", "d.gif", "e.jpeg"):
        write_image(tmp_path / name)
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "inner.png").mkdir()
    write_image(tmp_path / "inner.png" / "f.png")
    return tmp_path


def test_directory_yields_its_pictures_sorted_by_name(folder: Path) -> None:
    names = ["a.JPG", "b.png", "c.webp", "d.gif", "e.jpeg"]
    assert find_names(folder) == [str(folder / name) for name in names]


def test_pattern_yields_its_matches_sorted_by_name(folder: Path) -> None:
    assert find_names(folder / "*.g*") == [str(folder / "d.gif")]
    assert find_names(folder / "[ab].*") == [str(folder / "a.JPG"), str(folder / "b.png")]
    assert find_names(folder / "**" / "f.png") == [str(folder / "inner.png" / "f.png")]
    assert find_names(folder / "*.png") == [str(folder / "b.png"), str(folder / "inner.png" / "f.png")]


def test_each_picture_is_found_once_in_argument_order(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder / "c.webp")
    expected = [str(folder / "c.webp"), "-", *(str(folder / name) for name in ("a.JPG", "b.png", "d.gif", "e.jpeg"))]
    assert find_names(folder / "c.webp", "-", folder, "-", folder / "link.png", f"{folder}/./b.png") == expected


def test_existing_file_with_pattern_characters_in_its_name_is_found(tmp_path: Path) -> None:
    path = write_image(tmp_path / "shirt [1].png")
    assert find_names(path) == [str(path)]


def test_arguments_without_pictures_are_reported(tmp_path: Path) -> None:
    assert find_names(tmp_path) == [
        f"{tmp_path}: {tmp_path} has no PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC picture in it"
    ]
    assert find_names(tmp_path / "*.png") == [f"{tmp_path}/*.png: {tmp_path}/*.png matches no picture"]
    assert find_names(tmp_path / "missing.png") == [str(tmp_path / "missing.png")]
    assert "No such file" in read_error(tmp_path / "missing.png")
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    assert "circle.png cannot be read" in read_error(find_names(tmp_path / "circle.png")[0])
    assert "cannot be read" in find_names("x" * 5000)[0]


@pytest.mark.parametrize("suffix", ["png", "webp", "gif", "jpg"])
def test_each_format_is_read(tmp_path: Path, suffix: str) -> None:
    flat = Image.new("RGB", (30, 20), (200, 40, 90))
    pixels = photo_files.read(str(write_image(tmp_path / f"flat.{suffix}", flat)))
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
def test_each_pixel_mode_is_read(tmp_path: Path, mode: str, shape: tuple[int, ...], dtype: type) -> None:
    image = Image.fromarray(PIXELS)
    if mode == "I;16":
        image = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 200)
    pixels = photo_files.read(str(write_image(tmp_path / "x.png", image if mode == "I;16" else image.convert(mode))))
    assert pixels.shape == shape
    assert pixels.dtype == dtype
    if mode == "I;16":
        np.testing.assert_array_equal(pixels, PIXELS[..., 0].astype(np.uint16) * 200)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, [255]),
        ("L", 70, [70]),
        ("LA", (70, 200), [70, 200]),
        ("RGB", (200, 40, 90), [200, 40, 90]),
        ("RGBA", (200, 40, 90, 120), [200, 40, 90, 120]),
        ("CMYK", (0, 255, 255, 0), [255, 0, 0]),  # magenta and yellow ink: red
        ("YCbCr", (76, 85, 255), [255, 0, 0]),
        ("I", 100_000, [50_000]),
        ("I", 2_000_000_000, [65_535]),
        ("I", -5, [0]),
    ],
)
def test_colours_of_each_mode_are_kept(mode: str, colour: Any, expected: list[int], tmp_path: Path) -> None:
    suffix = "jpg" if mode == "YCbCr" else "tif" if mode in ("CMYK", "I") else "png"
    pixels = photo_files.read(str(write_image(tmp_path / f"x.{suffix}", Image.new(mode, (8, 8), colour))))
    np.testing.assert_allclose(pixels[4, 4].ravel().astype(int), expected, atol=2 if suffix == "jpg" else 0)


@pytest.mark.parametrize(("mode", "key", "opaque"), [("RGB", (255, 0, 255), (10, 20, 30)), ("L", 255, 20), ("1", 1, 0)])
def test_transparent_colour_is_not_mixed_into_the_edges_of_a_large_picture(
    mode: str, key: Any, opaque: Any, tmp_path: Path
) -> None:
    image = Image.new(mode, (3001, 2001), key)
    image.paste(opaque, (999, 601, 2000, 1402))
    reduced = photo_files.read_reduced(str(write_image(tmp_path / "x.png", image, transparency=key))).pixels
    assert max(reduced.shape) < 2000
    visible = reduced[..., :-1][reduced[..., -1] > 128]
    np.testing.assert_allclose(visible, np.broadcast_to(opaque, visible.shape), atol=1)


def test_palette_with_a_transparent_colour_is_read_with_alpha(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 255, 10, 20, 30])
    image.putpixel((1, 2), 1)
    pixels = photo_files.read(str(write_image(tmp_path / "x.png", image, transparency=0)))
    assert pixels.shape == (4, 4, 4)
    assert pixels[2, 1].tolist() == [10, 20, 30, 255]
    assert (pixels[..., 3] == 0).sum() == 15


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow cannot read AVIF")
@pytest.mark.parametrize("brand", [b"avif", b"mif1"])
def test_avif_is_read_whichever_of_its_brands_comes_first(brand: bytes, tmp_path: Path) -> None:
    content = write_image(tmp_path / "x.avif", Image.new("RGB", (16, 16), (200, 40, 90))).read_bytes()
    assert content[8:12] == b"avif"
    assert b"avif" in content[16:64]
    (tmp_path / "x.avif").write_bytes(content[:8] + brand + content[12:])
    np.testing.assert_allclose(photo_files.read(str(tmp_path / "x.avif"))[8, 8].astype(int), (200, 40, 90), atol=6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photo_is_turned_upright_by_its_exif_orientation(tmp_path: Path, orientation: int) -> None:
    upright = Image.new("L", (32, 16), 0)
    upright.paste(255, (0, 0, 8, 8))
    # The stored picture, which its EXIF orientation turns upright.
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
    pixels = photo_files.read(str(write_image(tmp_path / "x.png", stored, exif=exif)))
    np.testing.assert_array_equal(pixels, np.asarray(upright))


def _exif_with_invalid_width() -> bytes:
    """EXIF with an orientation, and with a width that is a word and cannot be written back."""
    exif = Image.Exif()
    exif[0x112] = 6
    exif[0x10F] = "wide"  # the maker, whose tag is replaced by that of the width
    return exif.tobytes().replace(b"\x0f\x01", b"\x00\x01", 1)


@pytest.mark.parametrize("edge", [16, 2000])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize(
    "damaged",
    [b"no header at all", b"Exif\0\0II*\0\x08\0\0", _exif_with_invalid_width()],
    ids=["no header", "truncated", "invalid width"],
)
def test_picture_with_damaged_exif_is_read(tmp_path: Path, suffix: str, damaged: bytes, edge: int) -> None:
    path = write_image(
        tmp_path / f"x.{suffix}", Image.new("RGB", (edge, edge), (10, 200, 30)), exif=damaged, dpi=(72, 72)
    )
    pixels = photo_files.read_reduced(str(path)).pixels
    assert len(pixels) in (16, 1000)
    assert np.abs(pixels[:9, :9].astype(int) - (10, 200, 30)).max() <= 2


@pytest.mark.parametrize("edge", [16, 2000])
def test_picture_with_a_damaged_text_profile_is_read(tmp_path: Path, edge: int) -> None:
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("Raw profile type exif", "\nexif\n      4\nzzzz\n", zip=True)
    path = write_image(tmp_path / "x.png", Image.new("RGB", (edge, edge), (10, 200, 30)), pnginfo=metadata)
    assert photo_files.read_reduced(str(path)).pixels[3, 3].tolist() == [10, 200, 30]


def test_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    path = write_image(tmp_path / "x.gif", frames[0], save_all=True, append_images=frames[1:])
    assert photo_files.read(str(path))[0, 0].tolist() == [250, 0, 0]


def test_standard_input_is_read_and_rejected_if_empty_a_terminal_or_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = write_image(tmp_path / "x.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False))
    np.testing.assert_array_equal(photo_files.read("-"), PIXELS)
    assert read_error("-") == "standard input is empty"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    assert "terminal" in read_error("-")
    monkeypatch.setattr(sys, "stdin", None)
    assert read_error("-") == "standard input cannot be read (it is closed: pipe a picture into it)"


def test_unreadable_files_are_rejected_by_name(tmp_path: Path) -> None:
    intact = write_image(tmp_path / "whole.png").read_bytes()
    for name, content, reason in (
        ("empty.png", b"", "is empty"),
        (
            "text.png",
            b"This is no picture.",
            "is not a readable picture: expected PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC",
        ),
        ("cut.png", intact[: len(intact) // 2], "is damaged"),
        ("vector.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "is not a readable picture"),
        ("x.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a readable picture"),
    ):
        (tmp_path / name).write_bytes(content)
        message = read_error(tmp_path / name)
        assert message.startswith(f"{tmp_path / name} ")
        assert reason in message
    os.mkfifo(tmp_path / "pipe.png")
    assert "it is not a regular file" in read_error(tmp_path / "pipe.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tiff"])
def test_truncated_or_corrupted_files_raise_only_data_errors(tmp_path: Path, suffix: str) -> None:
    intact = write_image(tmp_path / f"x.{suffix}").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged"
    messages = []
    for position in rng.integers(0, len(intact), 40):
        damaged = bytearray(intact)
        damaged[position] ^= int(rng.integers(1, 256))
        for content in (intact[:position], bytes(damaged)):
            path.write_bytes(content)
            with contextlib.suppress(DataError):
                assert photo_files.read(str(path)).size
                continue
            messages.append(read_error(path))
    assert messages


def make_empty_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(8001, 8000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_picture_with_too_many_pixels_is_rejected_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(make_empty_png(*size))
    message = read_error(tmp_path / "bomb.png")
    assert "64,000,000" in message
    assert message.endswith("make it smaller")


def test_file_with_too_many_bytes_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_image(tmp_path / "x.png")
    monkeypatch.setattr(photo_files, "MAX_BYTES", path.stat().st_size)
    photo_files.read(str(path))
    monkeypatch.setattr(photo_files, "MAX_BYTES", path.stat().st_size - 1)
    assert "bytes: make it smaller" in read_error(path)


def test_printable_names_are_one_line_and_encodable() -> None:
    assert photo_files.printable("hemd ü.png") == "hemd ü.png"
    for name in ("a\nb.png", "\x1b[31mred", os.fsdecode(b"\xff.png")):
        printable = photo_files.printable(name)
        assert printable.isprintable()
        printable.encode()


@pytest.mark.parametrize("suffix", ["bmp", "tif"])
def test_bmp_and_tiff_files_are_read(tmp_path: Path, suffix: str) -> None:
    np.testing.assert_array_equal(photo_files.read(str(write_image(tmp_path / f"x.{suffix}"))), PIXELS)


def test_12_bit_levels_are_scaled_to_16_bits(tmp_path: Path) -> None:
    levels = np.array([[0, 4095], [2048, 16]], np.uint16)
    for file, expected in (("twelve.png", levels << 4), ("sixteen.tif", levels * 16 + 15)):
        stored = levels if file == "twelve.png" else expected
        actual = photo_files.read(str(write_image(tmp_path / file, Image.fromarray(stored))))
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("maximum", [1.0, 255.0, 65535.0])
def test_float_levels_of_any_range_are_scaled_to_16_bits(tmp_path: Path, maximum: float) -> None:
    levels = np.linspace(0, maximum, 6, dtype=np.float32).reshape(2, 3)
    actual = photo_files.read(str(write_image(tmp_path / "x.tif", Image.fromarray(levels))))
    np.testing.assert_array_equal(actual, np.linspace(0, 65535, 6).reshape(2, 3).astype(np.uint16))


def test_heic_without_its_package_is_rejected_with_an_install_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    assert read_error(tmp_path / "x.heic").endswith(
        "x.heic is a HEIC picture: pip install pillow-heif, or save it as JPEG"
    )


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_large_picture_is_downscaled_while_reading(tmp_path: Path, suffix: str, orientation: int) -> None:
    pixels = np.full((2600, 4000, 3), 240, np.uint8)
    pixels[1000:2000, 500:1500] = (200, 30, 60)
    exif = Image.Exif()
    exif[0x112] = orientation
    path = write_image(tmp_path / f"x.{suffix}", Image.fromarray(pixels), exif=exif)
    reduced = photo_files.read_reduced(str(path))
    full = photo_files.read(str(path))
    assert reduced.size == (full.shape[1], full.shape[0])
    assert max(reduced.pixels.shape) in range(1000, 2001)
    expected = Image.fromarray(full).resize(reduced.pixels.shape[1::-1], Image.Resampling.BOX)
    assert np.abs(np.asarray(expected).astype(int) - reduced.pixels).mean() < 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "I;16", "CMYK"])
def test_downscaled_picture_of_any_mode_matches_the_full_one(tmp_path: Path, mode: str) -> None:
    levels = np.full((1400, 3000), 50_000, np.uint16)
    levels[300:900, 400:1200] = 9_000
    eight_bit = Image.fromarray((levels >> 8).astype(np.uint8))
    image = Image.fromarray(levels) if mode == "I;16" else eight_bit.convert("RGBA" if mode == "PA" else mode)
    image = image.convert("PA") if mode == "PA" else image
    path = str(write_image(tmp_path / ("x.tif" if mode in ("CMYK", "PA") else "x.png"), image))
    reduced, full = photo_files.read_reduced(path).pixels, photo_files.read(path)
    assert reduced.dtype == full.dtype
    assert reduced.shape[2:] == full.shape[2:]
    assert max(reduced.shape) < 2600
    factor = round(full.shape[1] / reduced.shape[1])
    for row, column in ((450, 600), (30, 600), (450, 1500)):  # within the dark box, above it, and to its right
        part = full[row : row + 240, column : column + 480]
        reduced_part = reduced[row // factor :, column // factor :][: 240 // factor, : 480 // factor]
        assert abs(float(reduced_part.mean()) - float(part.mean())) < 0.02 * float(full.max())


def test_small_picture_is_read_unchanged(tmp_path: Path) -> None:
    pixels, size = photo_files.read_reduced(str(write_image(tmp_path / "x.png")))
    np.testing.assert_array_equal(pixels, PIXELS)
    assert size == (9, 6)
