"""A page in a real browser: headless Chromium."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.chrome.webdriver import WebDriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DRIVER = shutil.which("chromedriver") or ""
needs_browser = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="no headless Chromium here: apt-get install chromium chromium-driver",
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
    "--disable-dev-shm-usage",
)
PATIENCE_S = 20


class Reader:
    """A browser with one page open."""

    def __init__(self, driver: WebDriver) -> None:
        self.driver = driver
        self.script = driver.execute_script

    def open(self, path: Path, width: int = 1280, height: int = 900, theme: str = "light") -> Self:
        self.driver.get("about:blank")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        wanted = [{"name": "prefers-color-scheme", "value": theme}]
        self.tell("Emulation.setEmulatedMedia", features=wanted)
        self.driver.get(path.resolve().as_uri())
        self.until("return document.documentElement.dataset.ready")
        return self

    def until(self, script: str, *arguments: object) -> Any:
        """What the script returns, once that is something."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if found := self.script(script, *arguments):
                return found
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}; log: {self.driver.get_log('browser')}")

    def tell(self, command: str, **arguments: Any) -> dict[str, Any]:
        return self.driver.execute_cdp_cmd(command, arguments)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def errors(self) -> list[dict[str, Any]]:
        return [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """Addresses that the page asked for."""
        events = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def rows(self) -> list[str]:
        """Case ids of the rows that are shown, in order."""
        return self.script(
            "return [...document.querySelectorAll('#table tbody tr')]"
            ".filter(row => !row.hidden).map(row => row.dataset.case)"
        )

    def column(self, heading: str) -> list[str]:
        """Raw cells of a column as the table shows them, top down."""
        return self.script(
            """const heads = [...document.querySelectorAll('#table thead th')];
            const place = heads.findIndex(head => head.textContent === arguments[0]);
            return [...document.querySelectorAll('#table tbody tr')].filter(row => !row.hidden)
              .map(row => row.cells[place].dataset.v ?? row.cells[place].textContent);""",
            heading,
        )

    def marks(self, figure: str) -> int:
        """How many points a chart shows."""
        return self.script(
            "return document.querySelectorAll(`#figure-${arguments[0]} "
            ".drawing svg .mark-symbol > path`).length",
            figure,
        )

    def picture(self, path: Path, top: int = 0, height: int | None = None) -> Path:
        height = height or self.script("return document.documentElement.scrollHeight")
        width = self.script("return window.innerWidth")
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        taken = self.tell("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(taken["data"]))
        return path


@contextmanager
def chromium(profile: Path) -> Iterator[Reader]:
    """A browser; `profile` is an empty folder for what it keeps."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Reader(driver)
    finally:
        driver.quit()
