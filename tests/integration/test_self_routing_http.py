"""Self-routing over real langchain-openai clients and a real server, which counts what it sends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI
from pydantic import Field

from langchain_hybridflow import Budget, Price, RoutedChatModel
from langchain_hybridflow.answer_or_ask import ASK_MARKER, NO_HELP
from langchain_hybridflow.routing import SelfRouter
from langchain_hybridflow.sandbox.server import Fault, create_app, running_server
from langchain_hybridflow.testing import ScriptedChatModel

PATIENCE_S = 20.0
ENDLESS = 200_000
PROMPT = "Capital of France please"
ASKS = f"<think>No idea.</think>{ASK_MARKER}"
ANSWERS = "<think>Easy.</think>Paris, I know"
PRICES = {"little": Price(1, 1), "big": Price(1_000, 1_000)}


class Rambling(ScriptedChatModel):
    """Goes on and on after its answer, and notices when nobody listens any more."""

    sent: list[int] = Field(default_factory=list)
    closed: Any = Field(default_factory=threading.Event)

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        first: ChatGenerationChunk | None = None
        try:
            async for chunk in super()._astream(*args, **kwargs):
                first = first or chunk
                yield chunk
            assert first is not None
            for number in range(ENDLESS):
                self.sent.append(number)
                await asyncio.sleep(0)  # the server's turn, to notice who has gone
                yield ChatGenerationChunk(message=type(first.message)(content=" and so on"))
        finally:
            self.closed.set()


@dataclass
class Site:
    """Both tiers behind one server."""

    edge: ScriptedChatModel
    cloud: ScriptedChatModel = field(
        default_factory=lambda: ScriptedChatModel(responses=["Paris it is"], model_name="big")
    )

    def __post_init__(self) -> None:
        self.app = create_app({"little": self.edge, "big": self.cloud})

    def routed(self, url: str, **fields: Any) -> RoutedChatModel:
        client: dict[str, Any] = {"base_url": url, "api_key": "none", "max_retries": 0}
        settings: dict[str, Any] = {
            "edge": ChatOpenAI(model="little", timeout=30, **client),
            "cloud": ChatOpenAI(model="big", timeout=30, **client),
            "router": SelfRouter(),
            "max_retries": 0,
        }
        return RoutedChatModel(**(settings | fields))


def site_of(*edge: Any, kind: type[ScriptedChatModel] = ScriptedChatModel) -> Site:
    return Site(kind(responses=list(edge), model_name="little"))


async def by_invoke(model: Any, prompt: Any = PROMPT) -> Any:
    return await asyncio.to_thread(model.invoke, prompt)


async def by_ainvoke(model: Any, prompt: Any = PROMPT) -> Any:
    return await model.ainvoke(prompt)


async def by_stream(model: Any, prompt: Any = PROMPT) -> Any:
    return merged(await asyncio.to_thread(lambda: list(model.stream(prompt))))


async def by_astream(model: Any, prompt: Any = PROMPT) -> Any:
    return merged([chunk async for chunk in model.astream(prompt)])


def merged(chunks: list[Any]) -> Any:
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return total


Way = Callable[..., Awaitable[Any]]
every_way = pytest.mark.parametrize("way", [by_invoke, by_ainvoke, by_stream, by_astream])
streaming_ways = pytest.mark.parametrize("way", [by_stream, by_astream])


def tried(answer: Any) -> list[tuple[str, str, bool]]:
    attempts = answer.response_metadata["hybridflow"]["attempts"]
    return [(one["tier"], one["status"], one["asked"]) for one in attempts]


@pytest.fixture
def asking() -> Iterator[tuple[Site, str]]:
    site = site_of(ASKS)
    with running_server(site.app) as url:
        yield site, url


@every_way
async def test_cloud_answers_when_the_edge_asks(asking: tuple[Site, str], way: Way) -> None:
    site, url = asking
    budget = Budget(max_cloud_calls=9, prices=PRICES)
    with get_usage_metadata_callback() as usage:
        answer = await way(site.routed(url, budget=budget))
    assert answer.text == "Paris it is"
    assert tried(answer) == [("edge", "ok", True), ("cloud", "ok", False)]
    assert [record.model for record in site.app.state.log] == ["little", "big"]
    first, last = answer.response_metadata["hybridflow"]["attempts"]
    for name, attempt in (("little", first), ("big", last)):
        counted = usage.usage_metadata[name]
        assert counted["input_tokens"] == attempt["input_tokens"] > 0
        assert counted["output_tokens"] == attempt["output_tokens"] > 0
    assert budget.snapshot()["cloud_calls"]["spent"] == 1
    assert budget.snapshot()["usd"]["held"] == 0


@every_way
async def test_edge_answers_by_itself(way: Way) -> None:
    site = site_of(ANSWERS)
    with running_server(site.app) as url:
        answer = await way(site.routed(url))
    assert (answer.text, tried(answer)) == ("Paris, I know", [("edge", "ok", False)])
    assert answer.additional_kwargs["reasoning_content"] == "Easy."


@streaming_ways
async def test_connection_is_closed_as_soon_as_the_edge_asks(way: Way) -> None:
    site = site_of(ASKS, kind=Rambling)
    assert isinstance(site.edge, Rambling)
    with running_server(site.app) as url:
        answer = await way(site.routed(url, budget=Budget(prices=PRICES)))
        assert answer.text == "Paris it is"
        closed = await asyncio.to_thread(site.edge.closed.wait, PATIENCE_S)
    assert closed
    assert len(site.edge.sent) < ENDLESS
    first = answer.response_metadata["hybridflow"]["attempts"][0]
    assert first["usage_estimated"]
    assert 0 < first["output_tokens"] < 100


async def test_connection_is_closed_as_soon_as_the_edge_calls_for_help() -> None:
    call = {"name": "ask_for_help", "args": {}, "id": "call_1"}
    site = site_of(AIMessage("", tool_calls=[call]), kind=Rambling)
    assert isinstance(site.edge, Rambling)
    with running_server(site.app) as url:
        answer = await by_astream(site.routed(url, router=SelfRouter(contract="tool")))
        assert (answer.text, answer.tool_calls) == ("Paris it is", [])
        closed = await asyncio.to_thread(site.edge.closed.wait, PATIENCE_S)
    assert closed
    assert len(site.edge.sent) < ENDLESS


@every_way
async def test_edge_is_asked_again_when_the_server_of_the_cloud_fails(
    asking: tuple[Site, str], way: Way
) -> None:
    site, url = asking
    site.edge.responses.append(ANSWERS)
    site.app.state.faults.add(Fault(kind="server_error", model="big"))
    answer = await way(site.routed(url))
    assert answer.text == "Paris, I know"
    assert [one[:2] for one in tried(answer)] == [
        ("edge", "ok"),
        ("cloud", "failed"),
        ("edge", "ok"),
    ]
    assert NO_HELP in site.edge.calls[-1][0].text


async def test_agent_never_sees_the_call_for_help() -> None:
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"Sunny in {city}"

    calls_weather = AIMessage(
        "", tool_calls=[{"name": "weather", "args": {"city": "Rome"}, "id": "call_1"}]
    )
    asks = AIMessage("", tool_calls=[{"name": "ask_for_help", "args": {}, "id": "call_2"}])
    site = site_of(calls_weather, asks)
    with running_server(site.app) as url:
        agent = create_agent(site.routed(url), [weather])
        out = await agent.ainvoke({"messages": [HumanMessage("Weather in Rome?")]})
    kinds = [message.type for message in out["messages"]]
    assert kinds == ["human", "ai", "tool", "ai"]
    assert out["messages"][2].text == "Sunny in Rome"
    assert out["messages"][-1].text == "Paris it is"
    assert tried(out["messages"][-1]) == [("edge", "ok", True), ("cloud", "ok", False)]
    assert "ask_for_help" not in repr(out)
