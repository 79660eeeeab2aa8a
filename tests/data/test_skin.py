import numpy as np
import pytest
from PIL import Image, ImageDraw

from fmnist_jax.data.photos import to_dataset_image
from fmnist_jax.data.segmentation import border_mask
from fmnist_jax.data.skin import is_skin, shows_person

SKIN = ("#f1c9a5", "#c68642", "#8d5524")
OTHERS = ("#ffffff", "#808080", "#203060", "#2f7040", "#000000", "#e8e060", "#d0c8ff")


def draw_worn_shirt(cloth: str, skin: str | None, background: str = "#e8ecf0") -> np.ndarray:
    """A shirt, with the head, neck and arms of a wearer unless `skin` is None: u8[320, 240, 3]."""
    image = Image.new("RGB", (240, 320), background)
    pen = ImageDraw.Draw(image)
    if skin is not None:
        pen.ellipse((95, 30, 145, 95), fill=skin)
        pen.rectangle((108, 85, 132, 120), fill=skin)
        pen.polygon([(50, 150), (70, 160), (55, 250), (35, 245)], fill=skin)
        pen.polygon([(190, 150), (170, 160), (185, 250), (205, 245)], fill=skin)
    pen.polygon([(70, 110), (170, 110), (200, 160), (175, 175), (65, 175), (40, 160)], fill=cloth)
    pen.rectangle((75, 110, 165, 280), fill=cloth)
    return np.asarray(image)


def reports_person(pixels: np.ndarray) -> bool:
    return "a person is in the picture" in to_dataset_image(pixels).doubts


def test_is_skin_accepts_skin_colours_and_rejects_others() -> None:
    def colours(names: tuple[str, ...]) -> np.ndarray:
        return np.array([[int(name[i : i + 2], 16) for i in (1, 3, 5)] for name in names], np.float32) / 255

    assert is_skin(colours(SKIN)).all()
    assert not is_skin(colours(OTHERS)).any()


@pytest.mark.parametrize("skin", SKIN)
@pytest.mark.parametrize("cloth", ["#203060", "#e0e0e0", "#2f7040"])
def test_person_wearing_the_garment_is_reported(cloth: str, skin: str) -> None:
    assert reports_person(draw_worn_shirt(cloth, skin))


@pytest.mark.parametrize("cloth", [*SKIN, *OTHERS[1:5]])
def test_garment_alone_is_not_reported_as_a_person(cloth: str) -> None:
    assert not reports_person(draw_worn_shirt(cloth, None))


@pytest.mark.parametrize("background", ["#b98a5a", "#d8b48c"])
def test_person_is_not_reported_on_skin_coloured_backgrounds(background: str) -> None:
    assert not reports_person(draw_worn_shirt("#203060", SKIN[0], background))


def test_skin_coloured_print_is_not_reported_as_a_person() -> None:
    pixels = draw_worn_shirt("#203060", None).copy()
    pixels[160:220, 95:145] = (241, 201, 165)
    assert not reports_person(pixels)


def test_person_is_not_reported_for_full_or_empty_masks() -> None:
    worn = draw_worn_shirt("#203060", SKIN[0]).astype(np.float32) / 255
    border = border_mask(*worn.shape[:2])
    background = np.full_like(worn, worn[0, 0])
    assert shows_person(worn, (worn != background).any(-1), border)
    assert not shows_person(worn, np.ones(worn.shape[:2], bool), border)
    assert not shows_person(worn, np.zeros(worn.shape[:2], bool), border)
