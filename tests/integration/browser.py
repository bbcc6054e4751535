"""A real browser without a screen, for tests that look at pages; it reaches 127.0.0.1 only."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium import webdriver

CHROMIUM = Path("/usr/bin/chromium")
CHROMEDRIVER = Path("/usr/bin/chromedriver")

PATIENCE_S = 30.0

FLAGS = (
    "--headless",
    "--no-sandbox",  # a container's root may not make one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    # No name resolves, and no address is reached, but our own.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Browser:
    """A page, and what a test does with it; for all else there is `driver`, selenium's own.

    Args:
        driver: A running browser.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self._events: list[dict[str, Any]] = []

    def open(self, page: str | Path) -> None:
        """Go to an address on 127.0.0.1, or to a file, and wait until the page is loaded."""
        self.driver.get(page.resolve().as_uri() if isinstance(page, Path) else page)

    def wait(self, until: Callable[[webdriver.Chrome], Any], timeout_s: float = PATIENCE_S) -> Any:
        """Wait until a function of the driver returns something true, and return that."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, timeout_s, poll_frequency=0.05).until(until)

    def run(self, script: str, *arguments: object) -> Any:
        """Run JavaScript in the page, and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def resize(self, width: int, height: int) -> None:
        """Make the part of the page that is seen this large, in CSS pixels."""
        self._command(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def screenshot(self, path: Path, *, full_page: bool = True) -> Path:
        """Save what the page looks like as PNG, by default down to its end."""
        shot = self._command(
            "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": full_page}
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def console(self) -> list[str]:
        """What the page has complained of since this was last asked: errors and warnings."""
        entries = self.driver.get_log("browser")
        return [
            f"{entry['level']}: {entry['message']}"
            for entry in entries
            if entry["level"] in {"SEVERE", "WARNING"}
        ]

    def requested(self) -> list[str]:
        """Every address that a page has asked for so far, reached or not, in order."""
        entries = self.driver.get_log("performance")
        self._events += [json.loads(entry["message"])["message"] for entry in entries]
        return [
            event["params"]["request"]["url"]
            for event in self._events
            if event["method"] == "Network.requestWillBeSent"
            # The browser's own start page.
            and not event["params"]["documentURL"].startswith("chrome:")
        ]

    def _command(self, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.driver.execute_cdp_cmd(name, parameters)
        return answer


@contextmanager
def open_browser(*, width: int = 1280, height: int = 800) -> Iterator[Browser]:
    """Start a browser with an empty profile; it ends with the block.

    Args:
        width: Width of the window in CSS pixels.
        height: Its height.

    Yields:
        The browser, on an empty page.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        driver = _start(f"--user-data-dir={profile}", f"--window-size={width},{height}")
        try:
            yield Browser(driver)
        finally:
            driver.quit()


def _start(*more_flags: str) -> webdriver.Chrome:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    class LoopbackService(Service):
        """The driver's own server, by its address: "localhost" may be another one."""

        @property
        def service_url(self) -> str:
            return f"http://127.0.0.1:{self.port}"

    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, *more_flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = LoopbackService(executable_path=str(CHROMEDRIVER))
    return webdriver.Chrome(options=options, service=service)


@pytest.fixture
def browser(require: Callable[[str], None]) -> Iterator[Browser]:
    """A browser of the test's own."""
    require("selenium")
    require(CHROMIUM.name)
    require(CHROMEDRIVER.name)
    with open_browser() as opened:
        yield opened
