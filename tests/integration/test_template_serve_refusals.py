"""What clients are told when the money is spent, and when no model answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from langchain_hybridflow.sandbox import generate_problems
from tests.integration.serve_server import ServeServer, headers, serve_python, started

__all__ = ["serve_python"]

EASY = [{"role": "user", "content": "What is 12 * 14?"}]
# Long enough for the router to want the cloud.
HARD = generate_problems(3)[1].question
RUNS = {
    "invoke": {"input": HARD},
    "batch": {"inputs": [HARD]},
    "stream": {"input": HARD},
}


@pytest.fixture(scope="module")
def server(serve_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeServer]:
    """A server with next to no money, and an edge that is down."""
    settings: dict[str, object] = {"LIMIT_USD": "0.000001", "ON_EXHAUSTED": "raise"}
    settings["EDGE"] = "http://127.0.0.1:9/v1#nobody"
    with started(tmp_path_factory.mktemp("serve"), serve_python, **settings) as running:
        yield running


def post(server: ServeServer, path: str, body: Any) -> httpx.Response:
    return httpx.post(server.url + path, json=body, headers=headers("ada"), timeout=60)


@pytest.mark.parametrize("stream", [False, True])
def test_spent_money_is_a_429_that_says_when_to_come_back(
    server: ServeServer, *, stream: bool
) -> None:
    body = {"model": "cloud", "messages": EASY, "stream": stream}
    said = post(server, "/v1/chat/completions", body)
    assert (said.status_code, said.json()["error"]["code"]) == (429, "budget_exhausted")
    assert 0 < int(said.headers["retry-after"]) <= 86_400


@pytest.mark.parametrize("stream", [False, True])
def test_model_that_is_down_is_a_503(server: ServeServer, *, stream: bool) -> None:
    body = {"model": "edge", "messages": EASY, "stream": stream}
    said = post(server, "/v1/chat/completions", body)
    assert (said.status_code, said.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert "127.0.0.1" not in said.text


@pytest.mark.parametrize("run", RUNS)
def test_langserve_says_why_too(server: ServeServer, run: str) -> None:
    said = post(server, f"/model/{run}", RUNS[run])
    assert said.status_code in {429, 503}
    assert said.json()["error"]["code"] in {"budget_exhausted", "upstream_unavailable"}
    assert int(said.headers["retry-after"]) > 0


def test_events_end_with_an_error_that_says_why(server: ServeServer) -> None:
    said = post(server, "/model/stream_events", {"input": HARD})
    assert said.status_code == 200  # the first event is that the run has begun
    last = said.text.replace("\r", "").strip().split("\n\n")[-1]
    assert last.startswith("event: error")
    assert '"code": "' in last
    assert '"status_code": 500' not in last


def test_readiness_tells_which_tier_is_down(server: ServeServer) -> None:
    said = httpx.get(f"{server.url}/ready")
    assert (said.status_code, said.json()["edge"], said.json()["cloud"]) == (200, "down", "up")


def test_nothing_of_it_is_logged_but_its_kind(server: ServeServer) -> None:
    post(server, "/v1/chat/completions", {"model": "edge", "messages": EASY})
    assert "503 upstream_unavailable" in server.said()
    assert "12 * 14" not in server.said()
    assert "Traceback" not in server.said()
