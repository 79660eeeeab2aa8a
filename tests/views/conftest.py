"""A real browser for the tests of pages: headless Chromium."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if _CHROMIUM is None:
        pytest.skip("no Chromium to open the page in: install chromium")
    with sync_playwright() as playwright:
        # Chromium has no sandbox for root, as which containers run.
        chromium = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


Visit = Callable[[Path, int, str], AbstractContextManager[Page]]
"""`(path, width, "light" or "dark")`: opens the page, which must log nothing and request nothing but itself."""


@pytest.fixture
def visit(browser: Browser) -> Visit:
    @contextmanager
    def open_page(path: Path, width: int, scheme: str) -> Iterator[Page]:
        page = browser.new_page(viewport={"width": width, "height": 800})
        console_messages: list[str] = []
        requested_urls: list[str] = []
        page.on("console", lambda message: console_messages.append(message.text))
        page.on("pageerror", lambda error: console_messages.append(str(error)))
        page.on("request", lambda request: requested_urls.append(request.url))
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.goto(path.as_uri())
        yield page
        assert console_messages == []
        assert [url for url in requested_urls if not url.startswith("data:")] == [path.as_uri()]
        page.close()

    return open_page


@pytest.fixture
def page(browser: Browser, path: Path) -> Iterator[Page]:
    new_page = browser.new_page(viewport={"width": 1200, "height": 900})
    new_page.goto(path.as_uri())
    yield new_page
    new_page.close()
