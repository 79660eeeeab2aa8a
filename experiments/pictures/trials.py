"""Draws garments as people show them, and other things: `python -m experiments.pictures.trials DIR [RUN]`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFilter
from scipy.special import softmax

from experiments.photos import load_garment_run, prepare_like_predict
from experiments.pictures.drawings import BAG, BOOT, T_SHIRT, TROUSER, Points, draw
from experiments.records import make_folder
from experiments.script import run_script
from fmnist_jax import CLASS_NAMES, given_a_pair, reasons_for_doubt

DRESS: Points = [(0.38, 0), (0.42, 0.1), (0.58, 0.1), (0.62, 0), (0.66, 0.3), (0.62, 0.45), (0.8, 1), (0.2, 1)]
DRESS += [(0.38, 0.45), (0.34, 0.3)]
PULLOVER: Points = [(0.36, 0.02), (0.43, 0.06), (0.57, 0.06), (0.64, 0.02), (0.82, 0.12), (0.98, 0.9), (0.86, 0.93)]
PULLOVER += [(0.75, 0.4), (0.75, 0.98), (0.25, 0.98), (0.25, 0.4), (0.14, 0.93), (0.02, 0.9), (0.18, 0.12)]
SNEAKER: Points = [
    (0.02, 0.5),
    (0.12, 0.36),
    (0.3, 0.42),
    (0.42, 0.36),
    (0.6, 0.48),
    (0.92, 0.56),
    (1, 0.66),
    (0.98, 0.74),
]
SNEAKER += [(0.02, 0.74)]
SOLE: Points = [
    (0.45, 0),
    (0.6, 0.06),
    (0.66, 0.3),
    (0.6, 0.6),
    (0.63, 0.9),
    (0.5, 1),
    (0.37, 0.9),
    (0.4, 0.6),
    (0.34, 0.3),
]
SOLE += [(0.37, 0.08)]

_SIZE = (640, 480)  # rows and columns
_POSITION = (60.0, 130.0, 360.0)  # x, y and side of the square that a garment is drawn in


def solid_background(*colour: int) -> np.ndarray:
    """A background of one colour, u8[H, W, 3]."""
    return np.full((*_SIZE, 3), colour, np.uint8)


def planks() -> np.ndarray:
    """Boards of several browns with dark gaps and grain, u8[H, W, 3]."""
    rng = np.random.default_rng(0)
    board = np.arange(_SIZE[1]) // 60
    browns = np.array([170, 120, 75]) + rng.normal(0, 14, (int(np.max(board)) + 1, 1))
    grain = rng.normal(0, 6, _SIZE)[..., None]
    gaps = np.where(np.arange(_SIZE[1]) % 60 < 3, 0.5, 1.0)[None, :, None]
    return np.clip((browns[board] + grain) * gaps, 0, 255).astype(np.uint8)


def vignette() -> np.ndarray:
    """A studio wall, brightest in the middle, u8[H, W, 3]."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in _SIZE), indexing="ij")
    return np.repeat((235 - 45 * (x**2 + y**2))[..., None], 3, -1).astype(np.uint8)


def draw_outline(outline: Points, background: np.ndarray) -> Image.Image:
    """An outline drawn with a pen."""
    image = Image.fromarray(background)
    x, y, side = _POSITION
    points = [(x + side * dx, y + side * dy) for dx, dy in outline]
    ImageDraw.Draw(image).line([*points, points[0]], fill="#202020", width=5)
    return image


def garments() -> dict[str, tuple[Image.Image, str]]:
    """Pictures of garments by name, with their classes."""
    white = solid_background(255, 255, 255)
    pair = draw(SOLE, "#303040", solid_background(200, 195, 190), (20, 130, 300))
    pair = draw(SOLE, "#303040", np.asarray(pair), (180, 130, 300))
    bag = draw(BAG, "#803030", solid_background(225, 225, 215), _POSITION)
    ImageDraw.Draw(bag).arc((160, 160, 320, 420), 180, 360, fill="#803030", width=18)
    mirrored = [(1 - x, y) for x, y in BOOT]
    return {
        "filled": (draw(T_SHIRT, "#403050", white, _POSITION), "T-shirt/top"),
        "outline": (draw_outline(TROUSER, white), "Trouser"),
        "mirrored": (draw(mirrored, "#3c1e14", white, _POSITION), "Ankle boot"),
        "white-on-white": (draw(T_SHIRT, "#f2f2ee", white, _POSITION), "T-shirt/top"),
        "planks": (draw(TROUSER, "#203060", planks(), _POSITION), "Trouser"),
        "vignette": (draw(PULLOVER, "#704050", vignette(), _POSITION), "Pullover"),
        "pair-of-shoes": (pair, "Sneaker"),
        "dress-on-black": (draw(DRESS, "#d04060", solid_background(0, 0, 0), _POSITION), "Dress"),
        "bag": (bag, "Bag"),
        "sneaker": (draw(SNEAKER, "#205030", solid_background(230, 235, 240), _POSITION), "Sneaker"),
    }


def tilted_garments() -> dict[str, tuple[Image.Image, str]]:
    """Pictures of long garments by name, tilted clockwise by the degrees in the name, with their classes."""
    background, pictures = solid_background(240, 240, 235), {}
    for name, outline in (("Trouser", TROUSER), ("Dress", DRESS)):
        for degrees in (20, -20, 45, -45, 90, -90):
            cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
            rotated = [(cos * x - sin * y, sin * x + cos * y) for x, y in np.array(outline) - 0.5]
            tilted: Points = [(0.5 + x, 0.5 + y) for x, y in rotated]
            pictures[f"{name.lower()}-at-{degrees}"] = (draw(tilted, "#304060", background, (90.0, 170.0, 300.0)), name)
    return pictures


def non_garments() -> dict[str, Image.Image]:
    """Pictures without a garment, by name."""
    pictures = {name: Image.fromarray(solid_background(240, 240, 235)) for name in _STROKES}
    for name, image in pictures.items():
        pen = ImageDraw.Draw(image)
        for method, points, options in _STROKES[name]:
            getattr(pen, method)(points, **options)
    noise = np.random.default_rng(0).integers(0, 256, (*_SIZE, 3), dtype=np.uint8)
    stripes = np.where((np.arange(_SIZE[1]) // 40 % 2 == 0)[None, :, None], (200, 40, 40), (250, 250, 250))
    text = Image.fromarray(solid_background(255, 255, 255))
    for line in range(14):
        ImageDraw.Draw(text).text(
            (40, 40 + 40 * line), "It was a bright cold day in April, and", fill="black", font_size=22
        )
    return {
        **{name: image.filter(ImageFilter.GaussianBlur(1)) for name, image in pictures.items()},
        "noise": Image.fromarray(noise),
        "stripes": Image.fromarray(np.broadcast_to(stripes, (*_SIZE, 3)).astype(np.uint8)),
        "text": text,
    }


_INK, _SKIN = {"fill": "#303050"}, {"fill": "#e0b090"}
_STROKES: Mapping[str, list[tuple]] = {
    "cup": [
        ("polygon", [(120, 200), (320, 200), (300, 460), (140, 460)], {"fill": "#2060a0"}),
        ("arc", (270, 240, 410, 400), {"start": -90, "end": 100, "fill": "#2060a0", "width": 24}),
    ],
    "face": [
        ("ellipse", (110, 120, 370, 500), _SKIN),
        ("ellipse", (170, 250, 210, 275), _INK),
        ("ellipse", (270, 250, 310, 275), _INK),
        ("arc", (190, 330, 290, 430), {"start": 20, "end": 160, "fill": "#a03030", "width": 10}),
        ("chord", (110, 110, 370, 330), {"start": 180, "end": 360, "fill": "#503018"}),
    ],
    "tree": [
        ("rectangle", (220, 360, 260, 560), {"fill": "#604020"}),
        ("polygon", [(240, 60), (380, 380), (100, 380)], {"fill": "#207030"}),
    ],
    "star": [
        (
            "polygon",
            [
                (240 + radius * np.sin(np.pi * k / 5), 320 - radius * np.cos(np.pi * k / 5))
                for k, radius in enumerate([190, 75] * 5)
            ],
            {"fill": "#c0a020"},
        )
    ],
    "ball": [("ellipse", (100, 180, 380, 460), {"fill": "#d05020"})],
    "key": [
        ("ellipse", (60, 260, 180, 380), _INK),
        ("ellipse", (95, 295, 145, 345), {"fill": "#f0f0eb"}),
        ("rectangle", (170, 310, 430, 330), _INK),
        ("rectangle", (370, 330, 385, 370), _INK),
        ("rectangle", (405, 330, 420, 380), _INK),
    ],
    "chart": [
        ("line", [(60, 80), (60, 560), (440, 560)], {"fill": "#202020", "width": 4}),
        *(
            ("rectangle", (90 + 90 * k, 560 - h, 150 + 90 * k, 556), {"fill": "#3070b0"})
            for k, h in enumerate((120, 300, 210, 400))
        ),
    ],
}


@dataclass(frozen=True)
class Arguments:
    """Draws garments as people show them, and other things."""

    folder: tyro.conf.Positional[Path]
    """Folder to write the pictures to."""
    run: tyro.conf.Positional[Path | None] = None
    """A run whose predictions to print."""


def main(folder: Path, run: Path | None) -> None:
    """Writes the pictures, and prints a run's prediction for each with the reasons for doubt."""
    trained = None if run is None else load_garment_run(run)
    make_folder(folder)
    pictures = {f"garment-{name}": (picture, label) for name, (picture, label) in garments().items()}
    pictures |= {f"askew-{name}": pair for name, pair in tilted_garments().items()}
    pictures |= {f"other-{name}": (picture, "no garment") for name, picture in non_garments().items()}
    for name, (picture, _) in pictures.items():
        picture.save(folder / f"{name}.png")
    if trained is None:
        return
    model, frame = trained
    prepared = [prepare_like_predict(np.asarray(picture), frame) for picture, _ in pictures.values()]
    logits = model.predict(np.stack([image for image, _ in prepared]))
    for (name, (_, truth)), (_, doubts), row in zip(pictures.items(), prepared, softmax(logits, axis=-1), strict=True):
        shares = given_a_pair(row, doubts, CLASS_NAMES)
        reasons = ", ".join(reasons_for_doubt(shares, doubts, CLASS_NAMES)) or "sure"
        print(f"{name}: {truth}, predicted as {CLASS_NAMES[shares.argmax()]} {shares.max():.0%} ({reasons})")


if __name__ == "__main__":
    run_script(lambda arguments: main(arguments.folder, arguments.run), Arguments)
