"""Draws four garments on plain backgrounds, as a user might: `python -m experiments.pictures.drawings DIR`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFilter

from experiments.script import run_script

Points = list[tuple[float, float]]

# Outlines in the unit square.
T_SHIRT: Points = [(0.3, 0), (0.42, 0.06), (0.58, 0.06), (0.7, 0), (1, 0.25), (0.88, 0.42), (0.75, 0.33), (0.75, 1)]
T_SHIRT += [(1 - x, y) for x, y in reversed(T_SHIRT)]
TROUSER: Points = [(0.32, 0), (0.68, 0), (0.74, 1), (0.56, 1), (0.5, 0.35), (0.44, 1), (0.26, 1)]
BOOT: Points = [(0.6, 0.1), (0.95, 0.1), (0.95, 0.9), (0.05, 0.9), (0.02, 0.72), (0.2, 0.6), (0.55, 0.48)]
BAG: Points = [(0.1, 0.4), (0.9, 0.4), (1, 0.95), (0, 0.95)]


@dataclass(frozen=True)
class Arguments:
    """Draws four garments on plain backgrounds, as a user might."""

    folder: tyro.conf.Positional[Path]
    """Folder to write the pictures to."""


def draw(outline: Points, colour: str, background: np.ndarray, position: tuple[float, float, float]) -> Image.Image:
    """Fills an outline on a background u8[H, W, 3]; `position` is its x, y and side length in pixels."""
    image = Image.fromarray(background)
    x, y, side = position
    ImageDraw.Draw(image).polygon([(x + side * dx, y + side * dy) for dx, dy in outline], fill=colour)
    return image.filter(ImageFilter.GaussianBlur(1))


def draw_all() -> dict[str, Image.Image]:
    """The pictures by name."""
    rng = np.random.default_rng(0)
    gradient = np.linspace(255, 170, 900)[None, :, None] * np.array([1, 0.97, 0.9]) + np.zeros((700, 1, 1))
    noisy = 190 + rng.normal(0, 15, (800, 800, 3))
    black, green = np.zeros((800, 600, 3)), np.full((700, 700, 3), (60, 120, 60))
    bag = draw(BAG, "#c04040", green.astype(np.uint8), (150, 100, 400))
    ImageDraw.Draw(bag).arc((250, 130, 450, 400), 180, 360, fill="#c04040", width=28)
    return {
        "1-trouser": draw(TROUSER, "#5a2828", gradient.astype(np.uint8), (200, 90, 520)),
        "2-t-shirt": draw(T_SHIRT, "#f0e65a", black.astype(np.uint8), (60, 60, 300)),
        "3-boot": draw(BOOT, "#3c1e14", np.clip(noisy, 0, 255).astype(np.uint8), (180, 200, 450)),
        "4-bag": bag,
    }


def save(folder: Path) -> None:
    """Writes each picture as a PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawing in draw_all().items():
        drawing.save(folder / f"{name}.png")


if __name__ == "__main__":
    run_script(lambda arguments: save(arguments.folder), Arguments)
