"""The report in a real browser: it is drawn, it can be pointed at, and nothing gets out or in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from langchain_hybridflow.report import Run, evaluation_html, report_html, write_page
from tests.integration.browser import Browser
from tests.unit.report.evaluations import evaluation
from tests.unit.report.pages import PAYLOADS
from tests.unit.report.runs import chain_run, hostile, small_run


def shown(browser: Browser, html: str, tmp_path: Path) -> Browser:
    path = tmp_path / "report.html"
    write_page(html, path)
    browser.open(path)
    return browser


def requests_of(browser: Browser) -> list[str]:
    """What the page asked for: neither the page itself nor the browser's own start page."""
    own = ("file:", "chrome:")
    return [
        url for url in browser.requested() if not url.startswith(own) and "image/gif" not in url
    ]


def mark_of(browser: Browser, kind: str, name: str) -> Any:
    return browser.driver.find_element(By.CSS_SELECTOR, f"svg.{kind} [data-of='{name}']")


def point_at(browser: Browser, mark: Any) -> str:
    browser.run("arguments[0].scrollIntoView({block: 'center'})", mark)
    ActionChains(browser.driver).move_to_element(mark).perform()
    browser.wait(lambda driver: driver.find_element(By.ID, "tip").is_displayed())
    return str(browser.driver.find_element(By.ID, "tip").text)


def test_report_is_drawn_in_silence(browser: Browser, tmp_path: Path) -> None:
    shown(browser, report_html([small_run(label="mine")]), tmp_path)
    headings = [one.text for one in browser.driver.find_elements(By.TAG_NAME, "h2")]
    assert headings == ["Answer", "Plan", "Work over time", "Budget", "Decisions"]
    for picture in browser.driver.find_elements(By.CSS_SELECTOR, "main svg"):
        assert picture.size["width"] > 300
        assert picture.size["height"] > 40
    assert browser.console() == []
    assert requests_of(browser) == []


@pytest.mark.parametrize("kind", ["diagram", "chart"])
def test_pointing_at_a_subtask_tells_its_decision(
    browser: Browser, tmp_path: Path, kind: str
) -> None:
    shown(browser, report_html([small_run()]), tmp_path)
    tip = point_at(browser, mark_of(browser, kind, "s-2"))
    assert "2 analyze: What follows?" in tip
    assert "Sent to the cloud by difficulty" in tip
    assert "It cost $0.001." in tip
    lit = browser.run("return document.querySelectorAll('[data-of=\"s-2\"].on').length")
    assert lit >= 4  # the box, the bars, the row
    browser.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    assert not browser.driver.find_element(By.ID, "tip").is_displayed()


def test_keyboard_reaches_a_subtask_and_its_answer(browser: Browser, tmp_path: Path) -> None:
    shown(browser, report_html([small_run()]), tmp_path)
    box = mark_of(browser, "diagram", "s-3")
    browser.run("arguments[0].focus()", box)
    assert "3 analyze" in browser.driver.find_element(By.ID, "tip").text
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    row = browser.driver.find_element(By.ID, "s-3")
    assert row.find_element(By.TAG_NAME, "details").get_attribute("open") == "true"
    assert "answer 3" in row.text


def test_clicking_a_bar_opens_its_row(browser: Browser, tmp_path: Path) -> None:
    shown(browser, report_html([small_run()]), tmp_path)
    bar = mark_of(browser, "chart", "s-2")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", bar)
    ActionChains(browser.driver).click(bar).perform()
    assert "answer 2" in browser.driver.find_element(By.ID, "s-2").text


def test_rows_can_be_searched_and_opened(browser: Browser, tmp_path: Path) -> None:
    shown(browser, report_html([small_run()]), tmp_path)
    browser.driver.find_element(By.CSS_SELECTOR, ".actions input").send_keys("follows")
    rows = browser.driver.find_elements(By.CSS_SELECTOR, "[id='s-/decisions'] tbody tr")
    assert [row.get_attribute("id") for row in rows if row.is_displayed()] == ["s-2"]
    browser.driver.find_element(By.CSS_SELECTOR, ".actions button").click()
    assert "answer 2" in browser.driver.find_element(By.ID, "s-2").text


def test_plan_can_be_enlarged(browser: Browser, tmp_path: Path) -> None:
    shown(browser, report_html([small_run()]), tmp_path)
    width = "return document.querySelector('svg.diagram').getBoundingClientRect().width"
    before = browser.run(width)
    browser.driver.find_element(By.CSS_SELECTOR, "[data-zoom=in]").click()
    assert browser.run(width) == pytest.approx(1.4 * before, rel=0.02)
    browser.driver.find_element(By.CSS_SELECTOR, "[data-zoom=fit]").click()
    assert browser.run(width) == pytest.approx(before)


def test_nothing_that_a_model_wrote_is_run(browser: Browser, tmp_path: Path) -> None:
    run = hostile(PAYLOADS)
    for runs in ([run], [run, run]):
        shown(browser, report_html(runs), tmp_path)
        browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
        scope = "s-" if len(runs) == 1 else "s0-"
        for name in ("1", "2", "5", "12"):
            point_at(browser, mark_of(browser, "diagram", scope + name))
        assert browser.run("return window.pwned ?? null") is None
        assert browser.run("return document.scripts.length") == 1
        assert browser.console() == []
    assert requests_of(browser) == []


def test_script_is_refused_even_if_it_got_into_the_page(browser: Browser, tmp_path: Path) -> None:
    html = report_html([small_run()])
    injected = "<script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"
    shown(browser, html.replace("<main>", f"<main>{injected}"), tmp_path)
    assert browser.run("return window.pwned ?? null") is None
    complaints = " ".join(browser.console())
    assert "Content Security Policy" in complaints
    assert requests_of(browser) == []


def test_thousand_subtasks_are_drawn_and_can_be_pointed_at(
    browser: Browser, tmp_path: Path
) -> None:
    shown(browser, report_html([chain_run(1_000)]), tmp_path)
    assert browser.run("return document.querySelectorAll('svg.diagram .box').length") == 1_000
    assert "500 analyze: Part 500?" in point_at(browser, mark_of(browser, "diagram", "s-500"))
    assert browser.console() == []


def test_runs_are_compared_and_lead_to_their_details(browser: Browser, tmp_path: Path) -> None:
    runs: list[Run] = [small_run(label=label, score=1) for label in ("a", "b")]
    shown(browser, report_html(runs), tmp_path)
    browser.driver.find_element(By.CSS_SELECTOR, "#run-1 a").click()
    assert browser.run("return location.hash") == "#of-1"
    assert "run-0" in browser.run(
        "return [...document.querySelectorAll('svg [data-of]')].map((one) => one.dataset.of)"
    )
    assert browser.console() == []


def test_dark_page_has_light_text(browser: Browser, tmp_path: Path) -> None:
    emulate = "Emulation.setEmulatedMedia"
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.driver.execute_cdp_cmd(emulate, dark)
    shown(browser, report_html([small_run()]), tmp_path)
    color = "return getComputedStyle(document.body).color"
    text = "return getComputedStyle(document.querySelector('svg.chart text')).fill"
    assert browser.run(color) == "rgb(230, 234, 240)"
    assert browser.run(text) == "rgb(154, 165, 180)"
    browser.driver.execute_cdp_cmd(emulate, {"media": "print", **dark})
    assert browser.run(color) == "rgb(31, 41, 55)"


def test_evaluation_is_drawn_in_silence(browser: Browser, tmp_path: Path) -> None:
    hostile_name = PAYLOADS[0]
    html = evaluation_html({hostile_name: evaluation(), "b": evaluation(apgr=0.6)})
    shown(browser, html, tmp_path)
    assert len(browser.driver.find_elements(By.CSS_SELECTOR, "svg.chart")) == 3
    assert browser.run("return window.pwned ?? null") is None
    assert browser.console() == []
    assert requests_of(browser) == []
