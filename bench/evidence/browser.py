"""Times how soon a browser shows a page."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from fmnist_models.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
_SCREEN, _PATIENCE_S = (1400, 900), 60.0
# The drawn charts of the page of a history, and of the page of runs.
TRENDS, CHARTS = "figure.trend svg path.dots", ".drawing svg"


def first_screen(
    page: Path, part: str = "", picture: Path | None = None, charts: str = TRENDS
) -> tuple[float, int]:
    """Open a page in a fresh browser, at its top or at a part of it.

    Args:
        page: its file.
        part: such as `#charts`.
        picture: gets what the browser shows.
        charts: selects the charts that are drawn.

    Returns:
        seconds from the start of the navigation, when the browser itself runs, until the charts of
        the screen are shown; and how many are drawn then.

    Raises:
        UserError: no browser is installed.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not (browser and driver):
        raise UserError("no headless Chromium here: apt-get install chromium chromium-driver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError as error:
        raise UserError("selenium is not installed: pip install selenium") from error
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*_FLAGS, f"--window-size={_SCREEN[0]},{_SCREEN[1]}"):
        options.add_argument(flag)
    opened = webdriver.Chrome(options=options, service=Service(driver))
    try:
        opened.get(page.resolve().as_uri() + part)
        end = time.monotonic() + _PATIENCE_S
        while not (drawn := opened.execute_script("return document.documentElement.dataset.drawn")):
            if time.monotonic() > end:
                raise UserError(f"{page}: nothing was drawn within {_PATIENCE_S:g} s")
            time.sleep(0.02)
        shown = opened.execute_script(
            "return document.querySelectorAll(arguments[0]).length", charts
        )
        if picture is not None:
            opened.save_screenshot(str(picture))
        return float(drawn) / 1000, int(shown)
    finally:
        opened.quit()
