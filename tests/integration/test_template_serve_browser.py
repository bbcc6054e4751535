"""The playground, opened and used in a real browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement

from langchain_hybridflow.sandbox import generate_problems
from tests.integration.browser import Browser
from tests.integration.serve_server import TOKENS, ServeServer, serve_python, started

__all__ = ["serve_python"]

PROBLEM = generate_problems(3)[1]


@pytest.fixture(scope="module")
def server(serve_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeServer]:
    with started(tmp_path_factory.mktemp("serve"), serve_python, tokens=False) as running:
        yield running


def pictures(folder: Path) -> Path:
    """Where pictures go: kept, if somebody wants to look at them."""
    return Path(os.environ.get("HYBRIDFLOW_PICTURES") or folder)


def start_button(driver: WebDriver) -> WebElement | None:
    found = driver.find_elements(By.XPATH, "//button[contains(., 'Start')]")
    return found[0] if found else None


def page_text(driver: WebDriver) -> str:
    return driver.find_element(By.TAG_NAME, "body").text


def ask(browser: Browser, question: str, *, answer: str) -> None:
    """Type a question, press Start, and wait until the answer is there."""
    start = browser.wait(start_button)
    browser.wait(lambda driver: driver.find_elements(By.TAG_NAME, "textarea"))[0].send_keys(
        question
    )
    browser.wait(lambda _driver: start.is_enabled())
    start.click()
    browser.wait(lambda driver: answer in page_text(driver).partition("Output")[2])


def test_question_is_answered_in_the_playground_of_the_graph(
    server: ServeServer, browser: Browser, tmp_path: Path
) -> None:
    browser.open(f"{server.url}/ask/playground/")
    ask(browser, PROBLEM.question, answer=f"Answer: {PROBLEM.answer}")
    picture = browser.screenshot(pictures(tmp_path) / "serve-ask.png")
    assert picture.stat().st_size > 10_000
    assert browser.console() == []
    assert all(one.startswith(server.url) for one in browser.requested())


def test_message_is_answered_in_the_playground_of_the_model(
    server: ServeServer, browser: Browser, tmp_path: Path
) -> None:
    browser.open(f"{server.url}/model/playground/")
    browser.wait(start_button)
    browser.driver.find_element(By.CSS_SELECTOR, "button").click()  # one more message
    ask(browser, "What is 12 * 14?", answer="Answer: 168")
    browser.screenshot(pictures(tmp_path) / "serve-model.png")
    assert browser.console() == []


def test_playground_works_for_a_user_who_types_the_token_as_a_password(
    serve_python: Path, browser: Browser, tmp_path: Path
) -> None:
    with started(tmp_path, serve_python) as server:
        # The address with the password is what the browser's own dialogue comes to.
        browser.open(f"http://ada:{TOKENS['ada']}@127.0.0.1:{server.port}/")
        browser.open(f"{server.url}/ask/playground/")
        ask(browser, PROBLEM.question, answer=f"Answer: {PROBLEM.answer}")
        browser.open(f"{server.url}/nowhere")
        assert "Not Found" in page_text(browser.driver)


def test_page_of_another_name_for_this_machine_reaches_nothing(
    server: ServeServer, browser: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "evil.html"
    page.write_text(
        f"""<!doctype html><title>waiting</title><link rel="icon" href="data:,"><script>
        const ask = (type) => fetch("{server.url}/model/invoke", {{method: "POST",
            headers: {{"Content-Type": type}}, body: '{{"input": "What is 12 * 14?"}}'}})
          .then(() => "read", () => "refused");
        Promise.all([ask("application/json"), ask("text/plain")])
          .then((said) => document.title = said.join());
        </script>""",
        encoding="utf-8",
    )
    browser.open(page)
    browser.wait(lambda driver: driver.title != "waiting")
    assert browser.driver.title == "refused,refused"
