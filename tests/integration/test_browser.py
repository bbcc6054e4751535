"""The browser that other tests look at pages with: it sees what is there, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.browser import Browser

PNG = b"\x89PNG\r\n"


@pytest.fixture
def page(tmp_path: Path) -> Callable[[str], Path]:
    def write(html: str) -> Path:
        path = tmp_path / "page.html"
        # A page without an icon makes the browser ask for one.
        head = '<!doctype html><title>Page</title><link rel="icon" href="data:,">'
        path.write_text(head + html, encoding="utf-8")
        return path

    return write


def test_browser_runs_a_page_and_takes_its_picture_down_to_the_end(
    browser: Browser, page: Callable[[str], Path], tmp_path: Path
) -> None:
    browser.open(page("<p id=a></p><div style='height:3000px'></div><script>a.append(42)</script>"))
    assert browser.run("return document.getElementById('a').textContent") == "42"
    picture = browser.screenshot(tmp_path / "shots" / "page.png").read_bytes()
    assert picture.startswith(PNG)
    assert int.from_bytes(picture[20:24]) > 3000
    assert browser.console() == []


@pytest.mark.parametrize("host", ["example.com", "localhost", "192.0.2.1"])
def test_browser_reaches_nothing_but_the_own_address_when_a_page_asks(
    browser: Browser, page: Callable[[str], Path], host: str
) -> None:
    address = f"http://{host}/script.js"
    browser.open(page(f"<script src='{address}' onerror='document.title=1'></script>"))
    assert browser.run("return document.title") == "1"
    assert address in browser.requested()
    assert any("ERR_NAME_NOT_RESOLVED" in line for line in browser.console())
