"""A real browser to open pages in: Chromium, without a window."""

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
        # Without a sandbox, because root, as which containers run, may not have one.
        opened = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


Visit = Callable[[Path, int, str], AbstractContextManager[Page]]
"""`(path, width, "light" or "dark")`: the page, which complains of nothing and asks for nothing but itself."""


@pytest.fixture
def visit(browser: Browser) -> Visit:
    @contextmanager
    def visited(path: Path, width: int, scheme: str) -> Iterator[Page]:
        page = browser.new_page(viewport={"width": width, "height": 800})
        complaints: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.goto(path.as_uri())
        yield page
        assert complaints == []
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        page.close()

    return visited


@pytest.fixture
def page(browser: Browser, path: Path) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    opened.goto(path.as_uri())
    yield opened
    opened.close()
