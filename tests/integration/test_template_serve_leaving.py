"""Clients that leave, and servers that stop: no run goes on for nobody, no money stays held."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from langchain_hybridflow.sandbox import generate_problems
from tests.integration.serve_server import ServeServer, Spent, headers, serve_python, started

__all__ = ["serve_python"]

QUESTION = generate_problems(3)[1].question
ASKED = {"messages": [{"type": "human", "content": QUESTION}]}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "stream": ("/graph/stream", {"input": ASKED}),
    "stream_events": ("/graph/stream_events", {"input": ASKED}),
    "stream_log": ("/graph/stream_log", {"input": ASKED}),
    "openai": (
        "/v1/chat/completions",
        {"model": "cloud", "stream": True, "messages": [{"role": "user", "content": QUESTION}]},
    ),
}
SETTLED_S = 20.0


@pytest.fixture(scope="module")
def server(serve_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeServer]:
    """A server whose cloud takes seconds for an answer."""
    folder = tmp_path_factory.mktemp("serve")
    with started(folder, serve_python, SANDBOX_TIME_SCALE=2) as running:
        yield running


def settled(server: ServeServer) -> Spent:
    """What is spent when nothing is held any more, and nothing more is spent for a while."""
    end, before, still = time.monotonic() + SETTLED_S, None, 0
    while still < 8:
        now = server.spent()
        still = still + 1 if now == before and not now.held else 0
        before = now
        assert time.monotonic() < end, f"{now} spent and held"
        time.sleep(0.1)
    assert before is not None
    return before


@pytest.mark.parametrize("way", WAYS)
def test_run_ends_and_is_booked_when_the_reader_of_its_stream_leaves(
    server: ServeServer, way: str
) -> None:
    before = settled(server)
    path, body = WAYS[way]
    with httpx.stream(
        "POST", server.url + path, json=body, headers=headers("ada"), timeout=30
    ) as said:
        lines = said.iter_lines()
        while not server.spent().held:  # until a call to the cloud is under way
            next(lines)
    after = settled(server)
    assert after.usd > before.usd
    assert after.calls - before.calls < (4 if way != "openai" else 2)  # of the plan's four
    assert "Traceback" not in server.said()


def test_run_ends_when_the_client_of_a_whole_answer_leaves(server: ServeServer) -> None:
    before = settled(server)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.url}/graph/invoke", json={"input": ASKED}, headers=headers("ada"), timeout=2
        )
    assert settled(server).calls - before.calls < 4


@pytest.mark.parametrize("way", ["stream", "openai"])
def test_stream_is_brought_to_its_end_when_the_server_is_asked_to_stop(
    serve_python: Path, tmp_path: Path, way: str
) -> None:
    with started(tmp_path, serve_python, SANDBOX_TIME_SCALE=0.3) as server:
        path, body = WAYS[way]
        with httpx.stream(
            "POST", server.url + path, json=body, headers=headers("ada"), timeout=30
        ) as said:
            lines = said.iter_lines()
            read = [next(lines)]
            server.terminate()
            read += lines
        assert ("event: end" in read) or ("data: [DONE]" in read)
        assert server.wait() in {0, -signal.SIGTERM}  # in good order, uvicorn then dies of it
        assert not server.spent().held
        assert "Traceback" not in server.said()


def test_run_is_cut_off_and_booked_when_it_outlasts_the_grace_of_a_stop(
    serve_python: Path, tmp_path: Path
) -> None:
    with started(tmp_path, serve_python, "--grace-s", "1", SANDBOX_TIME_SCALE=20) as server:
        path, body = WAYS["openai"]
        read: list[str] = []

        def listen() -> None:
            with httpx.stream(
                "POST", server.url + path, json=body, headers=headers("ada"), timeout=60
            ) as said:
                try:
                    read.extend(said.iter_lines())
                except httpx.RemoteProtocolError:
                    read.append("cut off")

        listener = threading.Thread(target=listen)
        listener.start()
        end = time.monotonic() + SETTLED_S
        while not server.spent().held:
            assert time.monotonic() < end
            time.sleep(0.05)
        server.terminate()
        server.wait()
        listener.join()
        assert "data: [DONE]" not in read
        spent = server.spent()
        assert not spent.held
        assert spent.usd > 0
