"""Draws the README's picture of a report: `python -m experiments.pictures.report_picture REPORT.html OUT.png`."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import tyro
from playwright.sync_api import sync_playwright

from experiments.script import run_script


@dataclass(frozen=True)
class Arguments:
    """Draws the README's picture of a report."""

    report: tyro.conf.Positional[Path]
    """A run's `report.html`."""
    out: tyro.conf.Positional[Path]
    """The PNG to write."""


def take_screenshot(report: Path, out: Path, width: int = 1160) -> None:
    """Opens a report in headless Chromium and saves a screenshot down to the confusion matrix."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 1400}, color_scheme="light")
        page.goto(report.absolute().as_uri())
        matrix = page.locator("#confusion").bounding_box()
        assert matrix is not None
        page.screenshot(path=out, clip={"x": 0, "y": 0, "width": width, "height": matrix["y"] + matrix["height"] + 20})
        browser.close()


if __name__ == "__main__":
    run_script(lambda arguments: take_screenshot(arguments.report, arguments.out), Arguments)
