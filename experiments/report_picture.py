"""Draws the README's picture of a report: `python experiments/report_picture.py REPORT.html OUT.png`."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def photograph(report: Path, out: Path, width: int = 1160, height: int = 1010) -> None:
    """Opens a report in a Chromium without a window and saves what its top looks like."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.goto(report.absolute().as_uri())
        page.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    photograph(Path(sys.argv[1]), Path(sys.argv[2]))
