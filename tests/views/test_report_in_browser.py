"""Behaviour of the report and comparison pages in a real browser: headless Chromium, without a network."""

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from fmnist_jax.views import comparison_page
from fmnist_jax.views.report_page import render
from tests.views.conftest import Visit
from tests.views.test_comparison_page import make_runs
from tests.views.test_report_page import make_contents, make_many_classes, make_population

_FOCUS_IS_VISIBLE = """() => {
    const box = document.activeElement.getBoundingClientRect();
    return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === document.activeElement;
}"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(make_contents()))
    return path


@pytest.fixture(scope="module")
def population_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("population") / "report.html"
    path.write_text(render(make_population()))
    return path


@pytest.fixture(scope="module")
def comparison_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("several") / "comparison.html"
    runs = [run._replace(name=f"{run.name}-{copy}") for copy in range(4) for run in make_runs()]
    path.write_text(comparison_page.render("a dozen runs", runs))
    return path


@pytest.mark.parametrize("width", [375, 1200])
def test_population_report_shows_its_members_without_horizontal_overflow(
    browser: Browser, population_path: Path, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(population_path.as_uri())
    page.locator('nav a[href="#members"]').click()
    assert page.locator("#members table").is_visible()
    assert page.locator("#members .chart svg").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#members .rows").evaluate("(rows) => rows.scrollWidth <= rows.clientWidth")
    page.close()


def _alt_texts(page: Page) -> list[str]:
    return [str(image.get_attribute("alt")) for image in page.locator("#gallery img").all()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 768, 1200])
def test_report_loads_all_images_without_errors_or_horizontal_overflow(
    visit: Visit, path: Path, scheme: str, width: int
) -> None:
    with visit(path, width, scheme) as page:
        page.locator("summary").click()
        loaded = page.evaluate("[...document.images].map((image) => image.complete && image.naturalWidth === 28)")
        assert len(loaded) > 30
        assert all(loaded)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_clicking_a_cell_shows_and_pins_its_images(page: Page) -> None:
    cell = page.locator('[data-cell="3-4"]')
    cell.click()
    assert page.locator("#gallery h3").inner_text() == "Dress taken for Coat"
    assert page.locator("#gallery p").inner_text() == "2 images, most confident first"
    assert all(alt.startswith("Dress taken for Coat, image ") for alt in _alt_texts(page))
    assert len(_alt_texts(page)) == 2
    assert cell.get_attribute("aria-pressed") == "true"
    page.locator('[data-cell="0-0"]').hover()
    assert page.locator("#gallery h3").inner_text() == "Dress taken for Coat"
    page.locator('[data-cell="0-0"]').click()
    assert page.locator("#gallery h3").inner_text() == "T-shirt/top, recognised"
    assert cell.get_attribute("aria-pressed") == "false"


def test_hovering_over_a_cell_shows_its_images(page: Page) -> None:
    page.locator('[data-cell="5-5"]').hover()
    assert page.locator("#gallery h3").inner_text() == "Sandal, recognised"
    assert len(_alt_texts(page)) == 4
    assert page.locator("#matrix th.lit").all_inner_texts() == ["Sandal", "Sandal"]


def test_cells_can_be_reached_navigated_and_pinned_by_keyboard(page: Page) -> None:
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.cell"):
            break
    assert page.evaluate("document.activeElement.dataset.cell") == "0-0"
    assert page.locator("#gallery h3").inner_text() == "T-shirt/top, recognised"
    for key, cell in (("ArrowRight", "0-1"), ("ArrowDown", "1-1"), ("ArrowRight", "1-2"), ("ArrowUp", "1-2")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.dataset.cell") == cell
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.dataset.cell") == "1-1"
    assert page.locator("#gallery h3").inner_text() == "Trouser taken for Pullover"
    page.keyboard.press("Escape")
    assert page.locator('[aria-pressed="true"]').count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrast_meets_wcag(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    contrast = """(names) => {
      const light = (colour) => {
        const context = new OffscreenCanvas(1, 1).getContext("2d");
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
          .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const style = getComputedStyle(document.documentElement);
      const [one, other] = names.map((name) => light(style.getPropertyValue(name)));
      return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    }"""
    # WCAG 2.2 requires 4.5 to 1.
    for text, background in (
        ("--ink", "--card"),
        ("--muted", "--paper"),
        ("--wrong", "--card"),
        ("--on-right", "--right"),
    ):
        assert page.evaluate(contrast, [text, background]) >= 4.5, (text, background)


def test_print_layout_hides_the_navigation_and_keeps_the_images(page: Page) -> None:
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert page.locator("#mistakes img").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1200])
def test_comparison_page_loads_without_errors_and_wide_tables_scroll_in_place(
    visit: Visit, comparison_path: Path, scheme: str, width: int
) -> None:
    with visit(comparison_path, width, scheme) as page:
        for section in ("scores", "curves", "configuration", "classes"):
            page.locator(f'nav a[href="#{section}"]').click()
            assert page.locator(f"#{section} h2").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#curves .chart svg").count() == 5
        assert page.locator("#classes .wide").evaluate("(table) => table.scrollWidth > table.clientWidth")
        strokes = "(lines) => lines.map((line) => getComputedStyle(line).stroke)"
        lines = page.locator("#scores .swatch line").evaluate_all(strokes)
        assert len(lines) == 12
        assert "none" not in lines


def test_matrix_is_one_tab_stop_which_the_arrow_keys_move(visit: Visit, path: Path) -> None:
    with visit(path, 1200, "light") as page:
        stops = page.locator('#matrix button[tabindex="0"]')
        assert stops.count() == 1
        stops.focus()
        page.keyboard.press("ArrowDown")
        assert stops.count() == 1
        assert stops.evaluate("(button) => button === document.activeElement")


@pytest.mark.parametrize("classes", [10, 20, 60])
def test_long_names_stay_in_their_column_and_images_near_the_number(visit: Visit, tmp_path: Path, classes: int) -> None:
    contents = make_many_classes(classes, 1_000, 8)
    names = tuple(f"large omnivores and herbivores of kind {label}" for label in range(classes))
    path = tmp_path / "report.html"
    path.write_text(render(contents._replace(test=replace(contents.test, class_names=names))))
    with visit(path, 1200, "light") as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 1200
        for name in page.locator("#matrix tbody th").all():
            assert name.evaluate("(cell) => cell.scrollWidth <= cell.clientWidth")
        button = page.locator("#matrix button").first
        button.scroll_into_view_if_needed()
        button.hover()
        top = page.locator("#gallery h3").bounding_box()
        assert top is not None
        assert 0 <= top["y"] <= 800
        button.focus()
        for _ in range(classes):
            page.keyboard.press("ArrowDown")
            page.wait_for_function(_FOCUS_IS_VISIBLE, timeout=5_000)  # the page scrolls smoothly
