"""How the page of photos behaves in a real browser: Chromium, without a window and without a network."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from fmnist_jax.views.photo_page import render
from tests.views.conftest import Visit
from tests.views.test_photo_page import contents


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(render(contents(12)))
    return path


def places(page: Page) -> list[int]:
    """The pictures that can be seen, in the order in which they stand, by their numbers."""
    return [int(str(card.get_attribute("data-place"))) for card in page.locator(".card:visible").all()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1200])
def test_nothing_is_complained_of_every_image_loads_and_nothing_hangs_over_the_side(
    visit: Visit, path: Path, scheme: str, width: int
) -> None:
    with visit(path, width, scheme) as page:
        assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(247, 245, 240)", "dark": "rgb(19, 20, 23)"}[scheme]


def test_unsure_ones_and_classes_are_picked_out(page: Page) -> None:
    assert places(page) == list(range(12))
    page.get_by_label("unsure only").check()
    assert places(page) == [0, 3, 6, 9]
    assert page.locator("output").inner_text() == "4 of 12"
    page.locator('[name="class"]').select_option("Dress")
    assert places(page) == [3]
    page.get_by_label("unsure only").uncheck()
    assert places(page) == [3, 7, 11]
    page.locator('[name="class"]').select_option("any")
    assert places(page) == list(range(12))
    assert page.locator("output").inner_text() == ""


def test_pictures_are_put_in_the_order_that_is_asked_for(page: Page) -> None:
    page.locator('[name="order"]').select_option("by class")
    # Dress, Pullover, T-shirt/top, Trouser, of each the most probable first.
    assert places(page) == [11, 7, 3, 10, 6, 2, 8, 4, 0, 9, 5, 1]
    page.locator('[name="order"]').select_option("least probable first")
    assert places(page) == list(range(12))
    page.locator('[name="order"]').select_option("as given")
    assert places(page) == list(range(12))


def test_the_frame_is_around_the_object_and_what_was_seen_is_large(page: Page) -> None:
    for place, (width, height) in enumerate([(200, 90), (150, 200)]):
        card = page.locator(f'[data-place="{place}"]')
        photo, box = (card.locator(part).bounding_box() for part in (".photo img", ".box"))
        assert photo is not None
        assert box is not None
        assert photo["width"] / photo["height"] == pytest.approx(width / height, rel=0.02)
        assert box["x"] - photo["x"] == pytest.approx(photo["width"] / 8, abs=1)
        assert box["height"] == pytest.approx(photo["height"] / 2, abs=1)
        seen = card.locator(".seen img").bounding_box()
        assert seen is not None
        assert seen["width"] == seen["height"] > 4 * 28
        assert card.locator(".seen img").evaluate("(image) => getComputedStyle(image).imageRendering") == "pixelated"


def test_without_a_script_all_pictures_stand_there_and_no_control(browser: Browser, path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator(".card").count() == 12
    assert page.locator(".card").last.is_visible()
    assert not page.locator("form").is_visible()
    context.close()
