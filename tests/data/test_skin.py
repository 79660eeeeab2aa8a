import numpy as np
import pytest
from PIL import Image, ImageDraw

from fmnist_jax.data.photos import to_dataset_image
from fmnist_jax.data.segmentation import border_mask
from fmnist_jax.data.skin import is_skin, shows_person

SKIN = ("#f1c9a5", "#c68642", "#8d5524")
OTHERS = ("#ffffff", "#808080", "#203060", "#2f7040", "#000000", "#e8e060", "#d0c8ff")


def worn(cloth: str, skin: str | None, ground: str = "#e8ecf0") -> np.ndarray:
    """A shirt, and the head, the neck and the arms of who wears it: u8[320, 240, 3]."""
    image = Image.new("RGB", (240, 320), ground)
    pen = ImageDraw.Draw(image)
    if skin is not None:
        pen.ellipse((95, 30, 145, 95), fill=skin)
        pen.rectangle((108, 85, 132, 120), fill=skin)
        pen.polygon([(50, 150), (70, 160), (55, 250), (35, 245)], fill=skin)
        pen.polygon([(190, 150), (170, 160), (185, 250), (205, 245)], fill=skin)
    pen.polygon([(70, 110), (170, 110), (200, 160), (175, 175), (65, 175), (40, 160)], fill=cloth)
    pen.rectangle((75, 110, 165, 280), fill=cloth)
    return np.asarray(image)


def person(pixels: np.ndarray) -> bool:
    return "a person is in the picture" in to_dataset_image(pixels).doubts


def test_colours_of_skin_are_told_from_others() -> None:
    def colours(names: tuple[str, ...]) -> np.ndarray:
        return np.array([[int(name[i : i + 2], 16) for i in (1, 3, 5)] for name in names], np.float32) / 255

    assert is_skin(colours(SKIN)).all()
    assert not is_skin(colours(OTHERS)).any()


@pytest.mark.parametrize("skin", SKIN)
@pytest.mark.parametrize("cloth", ["#203060", "#e0e0e0", "#2f7040"])
def test_who_wears_a_garment_is_a_doubt(cloth: str, skin: str) -> None:
    assert person(worn(cloth, skin))


@pytest.mark.parametrize("cloth", [*SKIN, *OTHERS[1:5]])
def test_a_garment_alone_is_none(cloth: str) -> None:
    assert not person(worn(cloth, None))


@pytest.mark.parametrize("ground", ["#b98a5a", "#d8b48c"])
def test_on_wood_and_sand_nothing_is_said(ground: str) -> None:
    assert not person(worn("#203060", SKIN[0], ground))


def test_a_print_inside_a_garment_is_none() -> None:
    pixels = worn("#203060", None).copy()
    pixels[160:220, 95:145] = (241, 201, 165)
    assert not person(pixels)


def test_where_no_background_shows_nothing_is_said() -> None:
    colours = np.zeros((40, 30, 3), np.float32)
    assert not shows_person(colours, np.ones((40, 30), bool), border_mask(40, 30))
    assert not shows_person(colours, np.zeros((40, 30), bool), border_mask(40, 30))
