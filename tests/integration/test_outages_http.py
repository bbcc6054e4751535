"""Time-outs and circuit breakers over real clients, and servers that do not answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI

from langchain_hybridflow.calls.breaker import Breaker
from langchain_hybridflow.errors import ModelCallError
from tests.integration.test_chat_model_http import (
    Site,
    Way,
    every_way,
    serve,
    streaming_ways,
    tiers,
)


@pytest.fixture
def site() -> Iterator[Site]:
    yield from serve(tiers())


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port that takes no more connections, and refuses none: those who try wait."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


def record(message: Any) -> Any:
    return message.response_metadata["hybridflow"]


@every_way
async def test_edge_answers_when_the_cloud_takes_too_long(site: Site, way: Way) -> None:
    site.fail("hang")
    model = site.routed(cloud_timeout_s=0.3)
    answer = await way(model)
    first, last = record(answer)["attempts"]
    assert (first["status"], last["tier"], answer.text) == ("failed", "edge", "from the edge")
    assert first["error"].startswith("DeadlineExceeded")
    assert model.budget.snapshot()["cloud_calls"]["spent"] == 1  # it may have been made


@streaming_ways
async def test_edge_answers_when_the_cloud_does_not_begin(site: Site, way: Way) -> None:
    site.fail("hang")
    answer = await way(site.routed(first_token_timeout_s=0.3))
    assert answer.text == "from the edge"
    assert "The beginning of a streamed call" in record(answer)["attempts"][0]["error"]


@streaming_ways
async def test_stream_that_has_begun_outlasts_the_first_token_timeout(site: Site, way: Way) -> None:
    site.fail("hang_mid_stream", after_parts=3)
    with pytest.raises(ModelCallError, match="after 8 streamed characters") as broken:
        await way(site.routed(first_token_timeout_s=0.4, cloud_timeout_s=0.8))
    assert broken.value.partial_text == "Paris is"
    assert "longer than 0.8 s" in str(broken.value)


@every_way
async def test_connection_that_never_comes_about_is_given_up(
    site: Site, full_port: int, way: Way
) -> None:
    patient = ChatOpenAI(
        model="big", base_url=f"http://127.0.0.1:{full_port}/v1", api_key="none", max_retries=0
    )
    model = site.routed(cloud=patient, connect_timeout_s=0.3)
    answer = await asyncio.wait_for(way(model), timeout=20)
    assert answer.text == "from the edge"
    # It was never sent, so it has cost nothing.
    assert model.budget.snapshot()["cloud_calls"]["spent"] == 0


def test_timeout_of_the_inner_model_stays_as_it_is(site: Site) -> None:
    model = site.routed(client={"timeout": 7})
    assert model.core.models["cloud"].model.root_client.timeout == 7  # type: ignore[attr-defined]


def test_connect_timeout_can_be_left_alone(site: Site) -> None:
    cloud = site.client("big", timeout=None)
    model = site.routed(cloud=cloud, connect_timeout_s=None)
    assert model.core.models["cloud"].model.root_client.timeout is None  # type: ignore[attr-defined]


def test_connect_timeout_leaves_the_given_model_alone(site: Site) -> None:
    cloud = site.client("big", timeout=None)
    called = site.routed(cloud=cloud).core.models["cloud"].model
    assert cloud.root_client.timeout is None
    assert called.root_client.timeout == openai.Timeout(None, connect=5.0)  # type: ignore[attr-defined]
    assert called.root_async_client.timeout == openai.Timeout(None, connect=5.0)  # type: ignore[attr-defined]


@every_way
async def test_server_is_left_alone_when_it_keeps_failing(site: Site, way: Way) -> None:
    site.fail("server_error", times=None)
    model = site.routed(breaker=Breaker(fail_max=2))
    for _ in range(5):
        assert (await way(model)).text == "from the edge"
    assert len([request for request in site.requests if request.model == "big"]) == 2


async def test_server_that_refuses_the_key_is_not_left_alone(site: Site) -> None:
    site.fail("unauthorized", times=None)
    model = site.routed(breaker=Breaker(fail_max=2))
    for _ in range(4):
        await model.ainvoke("Capital of France please")
    assert model.core.circuits["cloud"].state == "closed"
