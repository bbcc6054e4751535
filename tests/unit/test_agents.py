"""Agents: a routed model is an agent's model, or stands in for it as a middleware."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.language_models import ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, SystemMessage
from langchain_core.messages.ai import add_usage
from langchain_core.messages.tool import tool_call
from pydantic import BaseModel

from langchain_hybridflow import Budget, Price, RoutedChatModel
from langchain_hybridflow.errors import BudgetExceeded, MissingExtraError
from langchain_hybridflow.routing import AlwaysCloud, AlwaysEdge
from langchain_hybridflow.testing import ObedientChatModel, ScriptedChatModel

QUESTION = {"messages": [("user", "How is the weather in Paris?")]}
ANSWER = "The tool said: Sunny in Paris"
ROUTERS = {"edge": AlwaysEdge(), "cloud": AlwaysCloud()}
NAMES = {"edge": "little", "cloud": "big"}

both_tiers = pytest.mark.parametrize("tier", ["edge", "cloud"])


class City(BaseModel):
    """A city that was spoken of."""

    name: str


def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Sunny in {city}"


def obedient(tier: str = "edge", **fields: Any) -> RoutedChatModel:
    """A routed model of two capable fakes, of which one always answers."""
    edge, cloud = (ObedientChatModel(model_name=NAMES[name]) for name in ("edge", "cloud"))
    return RoutedChatModel(**{"edge": edge, "cloud": cloud, "router": ROUTERS[tier], **fields})


def with_edge(edge: ScriptedChatModel, **fields: Any) -> RoutedChatModel:
    """A routed model whose edge always answers, and notes what reaches it."""
    return obedient("edge", edge=edge, **fields)


def records(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The routing records of a conversation's answers, in their order."""
    answers = [message for message in state["messages"] if isinstance(message, AIMessage)]
    return [answer.response_metadata["hybridflow"] for answer in answers]


def tiers(state: dict[str, Any]) -> list[str]:
    """Who gave a conversation's answers, in their order."""
    return [record["tier"] for record in records(state)]


@pytest.fixture
def create_agent(require: Callable[[str], None]) -> Callable[..., Any]:
    require("langchain")
    return import_module("langchain.agents").create_agent  # type: ignore[no-any-return]


@pytest.fixture
def middleware(create_agent: Callable[..., Any]) -> Callable[..., Any]:
    return import_module("langchain_hybridflow.agents").HybridFlowMiddleware  # type: ignore[no-any-return]


@pytest.fixture(params=["as its model", "as its middleware"])
def agent_of(
    request: pytest.FixtureRequest,
    create_agent: Callable[..., Any],
    middleware: Callable[..., Any],
) -> Callable[..., Any]:
    """Make an agent in which a routed model answers, be it the agent's model or not."""

    def as_model(routed: RoutedChatModel, **parts: Any) -> Any:
        return create_agent(routed, **parts)

    def as_middleware(routed: RoutedChatModel, **parts: Any) -> Any:
        own = ScriptedChatModel(responses=[AssertionError("The agent's own model was called.")])
        return create_agent(own, middleware=[middleware(routed)], **parts)

    return as_model if request.param == "as its model" else as_middleware


async def by_invoke(agent: Any) -> dict[str, Any]:
    return agent.invoke(QUESTION)  # type: ignore[no-any-return]


async def by_ainvoke(agent: Any) -> dict[str, Any]:
    return await agent.ainvoke(QUESTION)  # type: ignore[no-any-return]


async def by_stream(agent: Any) -> dict[str, Any]:
    *_, last = agent.stream(QUESTION, stream_mode="values")
    return last  # type: ignore[no-any-return]


async def by_astream(agent: Any) -> dict[str, Any]:
    *_, last = [state async for state in agent.astream(QUESTION, stream_mode="values")]
    return last  # type: ignore[no-any-return]


Way = Callable[[Any], Awaitable[dict[str, Any]]]
WAYS: list[Way] = [by_invoke, by_ainvoke, by_stream, by_astream]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def tokens(agent: Any) -> list[AIMessageChunk]:
    streamed = agent.stream(QUESTION, stream_mode="messages")
    return [message for message, _ in streamed if isinstance(message, AIMessageChunk)]


async def atokens(agent: Any) -> list[AIMessageChunk]:
    streamed = agent.astream(QUESTION, stream_mode="messages")
    return [message async for message, _ in streamed if isinstance(message, AIMessageChunk)]


# ------------------------------------------------------------------------------- tools and records


@every_way
@both_tiers
async def test_agent_calls_tools_and_answers(
    agent_of: Callable[..., Any], tier: str, way: Way
) -> None:
    state = await way(agent_of(obedient(tier), tools=[weather]))
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]
    assert state["messages"][-1].text == ANSWER


@every_way
@both_tiers
async def test_agent_shows_a_routing_record_on_each_answer(
    agent_of: Callable[..., Any], tier: str, way: Way
) -> None:
    state = await way(agent_of(obedient(tier), tools=[weather]))
    assert [record["model"] for record in records(state)] == [NAMES[tier]] * 2


def test_agent_sends_its_system_prompt(agent_of: Callable[..., Any]) -> None:
    edge = ScriptedChatModel(responses=["Sunny."])
    agent_of(with_edge(edge), system_prompt="Be brief.").invoke(QUESTION)
    assert edge.calls[0][0] == SystemMessage("Be brief.")


def test_agent_answers_without_tools(agent_of: Callable[..., Any]) -> None:
    state = agent_of(obedient()).invoke(QUESTION)
    assert state["messages"][-1].text == "You said: How is the weather in Paris?"


# --------------------------------------------------------------------------------------- streaming


@both_tiers
async def test_messages_mode_gives_each_word_once(agent_of: Callable[..., Any], tier: str) -> None:
    agent = agent_of(obedient(tier), tools=[weather])
    spoken = [chunk.text for chunk in tokens(agent) if chunk.text]
    assert spoken == [chunk.text for chunk in await atokens(agent) if chunk.text]
    assert spoken == ["The", " tool", " said:", " Sunny", " in", " Paris"]


@both_tiers
async def test_messages_mode_counts_each_token_once(
    agent_of: Callable[..., Any], tier: str
) -> None:
    agent = agent_of(obedient(tier), tools=[weather])
    with get_usage_metadata_callback() as counter:
        streamed = None
        for chunk in await atokens(agent):
            streamed = add_usage(streamed, chunk.usage_metadata)
    booked = None
    for message in agent.invoke(QUESTION)["messages"]:
        booked = add_usage(booked, getattr(message, "usage_metadata", None))
    assert counter.usage_metadata == {NAMES[tier]: booked}
    assert streamed == booked


def test_messages_mode_streams_tool_calls_piece_by_piece(agent_of: Callable[..., Any]) -> None:
    pieces = [
        piece["args"]
        for chunk in tokens(agent_of(obedient(), tools=[weather]))
        for piece in chunk.tool_call_chunks
    ]
    assert "".join(piece or "" for piece in pieces) == '{"city": "Paris"}'
    assert len(pieces) > 2


# ------------------------------------------------------------------------------- structured output


@every_way
@both_tiers
@pytest.mark.parametrize("strategy", ["ToolStrategy", "ProviderStrategy"])
async def test_agent_gives_structured_output(
    agent_of: Callable[..., Any], strategy: str, tier: str, way: Way
) -> None:
    strategies = import_module("langchain.agents.structured_output")
    form = getattr(strategies, strategy)(City)
    state = await way(agent_of(obedient(tier), tools=[weather], response_format=form))
    assert state["structured_response"] == City(name="Paris")


@pytest.mark.parametrize(
    ("profile", "option"), [({"structured_output": True}, "response_format"), ({}, "tool_choice")]
)
def test_agent_follows_the_profile_when_it_may_choose_the_form(
    agent_of: Callable[..., Any], profile: ModelProfile, option: str
) -> None:
    call = tool_call(name="City", args={"name": "Paris"}, id="1")
    answer = AIMessage('{"name": "Paris"}', tool_calls=[] if profile else [call])
    edge = ScriptedChatModel(responses=[answer], profile=profile)
    routed = with_edge(edge, cloud=ObedientChatModel(profile=profile))
    state = agent_of(routed, response_format=City).invoke(QUESTION)
    assert state["structured_response"] == City(name="Paris")
    assert {"response_format", "tool_choice"} & edge.call_kwargs[0].keys() == {option}


# ------------------------------------------------------------------------------------------ budget


@every_way
async def test_edge_goes_on_when_the_budget_runs_out_in_mid_agent(
    agent_of: Callable[..., Any], way: Way
) -> None:
    agent = agent_of(obedient("cloud", budget=Budget(max_cloud_calls=1)), tools=[weather])
    state = await way(agent)
    assert tiers(state) == ["cloud", "edge"]
    assert [record["degraded"] for record in records(state)] == [False, True]
    assert state["messages"][-1].text == ANSWER


def test_agent_raises_in_mid_run_when_the_budget_is_to_raise(agent_of: Callable[..., Any]) -> None:
    budget = Budget(max_cloud_calls=1, on_exhausted="raise")
    with pytest.raises(BudgetExceeded):
        agent_of(obedient("cloud", budget=budget), tools=[weather]).invoke(QUESTION)


def test_budget_is_charged_what_the_answers_say(agent_of: Callable[..., Any]) -> None:
    budget = Budget(limit_usd=1, prices={"big": Price(3, 15)})
    state = agent_of(obedient("cloud", budget=budget), tools=[weather]).invoke(QUESTION)
    told = sum(Decimal(record["cost_usd"]) for record in records(state))
    assert 0 < told == budget.start_run().snapshot().usd.spent


def test_agents_share_the_budget_of_their_model(agent_of: Callable[..., Any]) -> None:
    routed = obedient("cloud", budget=Budget(max_cloud_calls=1))
    states = [agent_of(routed).invoke(QUESTION) for _ in range(2)]
    assert [tiers(state) for state in states] == [["cloud"], ["edge"]]


# -------------------------------------------------------------------------------------- middleware


def test_middleware_keeps_what_another_one_has_set(
    create_agent: Callable[..., Any], middleware: Callable[..., Any]
) -> None:
    wrap_model_call = import_module("langchain.agents.middleware").wrap_model_call

    @wrap_model_call  # type: ignore[untyped-decorator]
    def insist(request: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(request.override(tool_choice="weather", model_settings={"seed": 7}))

    edge = ScriptedChatModel(responses=["Sunny."])
    own = ScriptedChatModel(responses=["Not me."])
    agent = create_agent(own, tools=[weather], middleware=[insist, middleware(with_edge(edge))])
    agent.invoke(QUESTION)
    options = edge.call_kwargs[0]
    assert [tool["function"]["name"] for tool in options["tools"]] == ["weather"]
    assert (options["tool_choice"], options["seed"]) == ("weather", 7)


def test_middleware_lets_one_behind_it_fall_back(
    create_agent: Callable[..., Any], middleware: Callable[..., Any]
) -> None:
    fallback = import_module("langchain.agents.middleware").ModelFallbackMiddleware
    dead = [ScriptedChatModel(responses=[ConnectionError("down")]) for _ in range(2)]
    routed = RoutedChatModel(edge=dead[0], cloud=dead[1])
    last_resort = ScriptedChatModel(responses=["I am here."])
    agent = create_agent(
        ScriptedChatModel(responses=["Not me."]),
        middleware=[middleware(routed), fallback(last_resort)],
    )
    assert agent.invoke(QUESTION)["messages"][-1].text == "I am here."


def test_import_names_the_extra_when_langchain_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain.agents.middleware.types", None)
    monkeypatch.delitem(sys.modules, "langchain_hybridflow.agents", raising=False)
    with pytest.raises(MissingExtraError, match=r"langchain-hybridflow\[agents\]"):
        import_module("langchain_hybridflow.agents")


# ------------------------------------------------------------------------------ LangGraph's own one


@every_way
@both_tiers
async def test_prebuilt_agent_of_langgraph_calls_tools_and_answers(tier: str, way: Way) -> None:
    prebuilt = import_module("langgraph.prebuilt")
    with pytest.deprecated_call(match="create_react_agent has been moved"):
        agent = prebuilt.create_react_agent(obedient(tier), tools=[weather])
    state = await way(agent)
    assert state["messages"][-1].text == ANSWER
    assert tiers(state) == [tier, tier]
