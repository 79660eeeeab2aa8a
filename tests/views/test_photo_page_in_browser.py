"""Behaviour of the photo page in a real browser: headless Chromium, without a network."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from fmnist_jax.views.photo_page import render
from tests.views.conftest import Visit
from tests.views.test_photo_page import make_contents


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(render(make_contents(12)))
    return path


def visible_cards(page: Page) -> list[int]:
    """The numbers of the visible pictures, in the order in which they are shown."""
    return [int(str(card.get_attribute("data-place"))) for card in page.locator(".card:visible").all()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1200])
def test_page_loads_without_errors_or_horizontal_overflow_in_both_colour_schemes(
    visit: Visit, path: Path, scheme: str, width: int
) -> None:
    with visit(path, width, scheme) as page:
        assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(247, 245, 240)", "dark": "rgb(19, 20, 23)"}[scheme]


def test_pictures_can_be_filtered_by_doubt_and_class(page: Page) -> None:
    assert visible_cards(page) == list(range(12))
    page.get_by_label("unsure only").check()
    assert visible_cards(page) == [0, 3, 6, 9]
    assert page.locator("output").inner_text() == "4 of 12"
    page.locator('[name="class"]').select_option("Dress")
    assert visible_cards(page) == [3]
    page.get_by_label("unsure only").uncheck()
    assert visible_cards(page) == [3, 7, 11]
    page.locator('[name="class"]').select_option("any")
    assert visible_cards(page) == list(range(12))
    assert page.locator("output").inner_text() == ""


def test_pictures_are_sorted_by_the_selected_order(page: Page) -> None:
    page.locator('[name="order"]').select_option("by class")
    # Dress, Pullover, T-shirt/top, Trouser, each with the most probable first.
    assert visible_cards(page) == [11, 7, 3, 10, 6, 2, 8, 4, 0, 9, 5, 1]
    page.locator('[name="order"]').select_option("least probable first")
    assert visible_cards(page) == list(range(12))
    page.locator('[name="order"]').select_option("as given")
    assert visible_cards(page) == list(range(12))


def test_box_frames_the_object_and_the_network_input_is_enlarged(page: Page) -> None:
    for index, (width, height) in enumerate([(200, 90), (150, 200)]):
        card = page.locator(f'[data-place="{index}"]')
        photo, box = (card.locator(part).bounding_box() for part in (".photo img", ".box"))
        assert photo is not None
        assert box is not None
        assert photo["width"] / photo["height"] == pytest.approx(width / height, rel=0.02)
        assert box["x"] - photo["x"] == pytest.approx(photo["width"] / 8, abs=1)
        assert box["height"] == pytest.approx(photo["height"] / 2, abs=1)
        network_input = card.locator(".seen img").bounding_box()
        assert network_input is not None
        assert network_input["width"] == network_input["height"] > 4 * 28
        assert card.locator(".seen img").evaluate("(image) => getComputedStyle(image).imageRendering") == "pixelated"


def test_without_javascript_all_pictures_are_shown_and_no_controls(browser: Browser, path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator(".card").count() == 12
    assert page.locator(".card").last.is_visible()
    assert not page.locator("form").is_visible()
    context.close()
