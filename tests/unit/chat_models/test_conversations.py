"""Conversations that stay where they are, and what it would cost to move them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import routedkit as kit
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_hybridflow import Budget, Price, RoutedChatModel, RouteDecision
from langchain_hybridflow.routing import TIERS, AlwaysEdge, RouteRequest, Tier
from langchain_hybridflow.testing import ScriptedChatModel

EASY, HARD = "easy", "hard"
LONG = "word " * 3_000


class AsTold:
    """Sends what says "hard" to the cloud, and notes what it was asked."""

    def __init__(self) -> None:
        self.requests: list[RouteRequest] = []

    def route(self, request: RouteRequest) -> RouteDecision:
        self.requests.append(request)
        tier: Tier = "cloud" if HARD in request.text else "edge"
        return RouteDecision(tier=tier, reason="as told", router="as_told")


def sticky(**fields: Any) -> RoutedChatModel:
    settings: dict[str, Any] = {"router": AsTold(), "sticky": "thread"}
    return kit.scripted(**(settings | fields))


def tier_of(answer: Any) -> str:
    return str(answer.response_metadata["hybridflow"]["tier"])


def talk(model: RoutedChatModel, *texts: str) -> list[str]:
    """A conversation that keeps its answers; returns who gave them."""
    history: list[BaseMessage] = []
    for text in texts:
        history.append(HumanMessage(text))
        history.append(model.invoke(history))
    return [tier_of(message) for message in history if isinstance(message, AIMessage)]


def in_thread(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}}


def test_conversation_stays_on_the_cloud_once_it_is_there() -> None:
    assert talk(sticky(), EASY, HARD, EASY, EASY) == ["edge", "cloud", "cloud", "cloud"]


def test_conversation_comes_down_again_when_it_is_not_sticky() -> None:
    assert talk(sticky(sticky=None), EASY, HARD, EASY) == ["edge", "cloud", "edge"]


def test_conversation_returns_to_the_cloud_when_the_budget_had_refused_one_answer() -> None:
    budget = Budget(max_cloud_tokens=3_000, prices={"big": Price(0, 0)})
    model = sticky(budget=budget, max_output_tokens=100)
    history: list[BaseMessage] = [HumanMessage(HARD)]
    history += [model.invoke(history), HumanMessage(EASY)]
    history += [model.invoke(history, max_tokens=50_000), HumanMessage(EASY)]
    refused, last = history[-2], model.invoke(history)
    assert refused.response_metadata["hybridflow"]["degraded"]
    assert (tier_of(refused), tier_of(last)) == ("edge", "cloud")


def test_conversation_stays_on_the_cloud_when_a_verifier_sent_it_there() -> None:
    model = sticky(verify=lambda request: EASY not in request.question)
    assert talk(model, EASY, "harmless") == ["cloud", "cloud"]


def test_policy_stands_above_stickiness() -> None:
    model = sticky(policy=lambda request: ["edge"] if "secret" in request.text else TIERS)
    assert talk(model, HARD, "secret")[-1] == "edge"


@kit.every_way
async def test_thread_is_remembered_when_the_history_says_nothing(way: kit.Way) -> None:
    model = sticky()
    await way(model, HARD, config=in_thread("alice"))
    told = [HumanMessage(HARD), AIMessage("Well."), HumanMessage(EASY)]
    assert tier_of(await way(model, told, config=in_thread("alice"))) == "cloud"
    assert tier_of(await way(model, told, config=in_thread("bob"))) == "edge"


def test_threads_are_not_remembered_when_the_model_is_not_sticky() -> None:
    model = sticky(sticky=None)
    model.invoke(HARD, config=in_thread("alice"))
    assert len(model._threads) == 0


def test_metadata_and_tags_of_the_caller_are_kept_beside_the_thread() -> None:
    model = sticky()
    seen: list[Any] = []

    def note(state: MessagesState) -> Any:
        seen.append(model.invoke(state["messages"]))
        return {"messages": [AIMessage("without metadata")]}

    graph = StateGraph(MessagesState)
    graph.add_node("note", note)
    graph.add_edge(START, "note")
    graph.add_edge("note", END)
    app = graph.compile()
    app.invoke({"messages": [HumanMessage(HARD)]}, in_thread("alice"))
    app.invoke({"messages": [HumanMessage(EASY)]}, in_thread("alice"))
    assert [tier_of(answer) for answer in seen] == ["cloud", "cloud"]


def test_sticky_model_is_written_down_and_made_again() -> None:
    from langchain_core.load import dumpd

    model = RoutedChatModel(
        edge=ScriptedChatModel(responses=["a"]),
        cloud=ScriptedChatModel(responses=["b"]),
        router=AlwaysEdge(),
        sticky="thread",
    )
    assert dumpd(model)["kwargs"]["sticky"] == "thread"


# What it costs to move.

PRICES = {"big": Price(10, 10, 1), "little": Price(2, 2)}


def asked(model: RoutedChatModel) -> RouteRequest:
    assert isinstance(model.router, AsTold)
    return model.router.requests[-1]


def conversation(tier: Tier, text: str = LONG) -> list[BaseMessage]:
    record = {"hybridflow": {"tier": tier}}
    return [HumanMessage(text), AIMessage("Yes.", response_metadata=record), HumanMessage(EASY)]


def priced(**fields: Any) -> RoutedChatModel:
    return sticky(sticky=None, budget=Budget(prices=PRICES), max_output_tokens=100, **fields)


def test_cached_prefix_is_counted_at_the_cached_rate_where_the_conversation_is() -> None:
    model = priced()
    model.invoke(conversation("cloud"))
    request = asked(model)
    assert request.previous_tier == "cloud"
    cached, rest = (
        request.cached_prompt_tokens,
        request.prompt_tokens - request.cached_prompt_tokens,
    )
    assert 6_000 < cached < request.prompt_tokens
    expected = (Decimal(cached) * 1 + rest * 10 + 100 * 10) / 1_000_000
    assert request.expected_cost_usd["cloud"] == expected
    assert (
        request.expected_cost_usd["edge"] == Decimal((request.prompt_tokens + 100) * 2) / 1_000_000
    )


@pytest.mark.parametrize(
    ("messages", "previous"),
    [
        ([HumanMessage(LONG)], None),
        (conversation("edge"), "edge"),  # its model has no price for cached tokens
        (conversation("cloud", "short"), "cloud"),
    ],
)
def test_nothing_is_cached_when_there_is_no_rate_no_history_or_too_little_of_it(
    messages: list[BaseMessage], previous: Tier | None
) -> None:
    model = priced()
    model.invoke(messages)
    request = asked(model)
    assert (request.previous_tier, request.cached_prompt_tokens) == (previous, 0)
    assert (
        request.expected_cost_usd["cloud"]
        == Decimal((request.prompt_tokens + 100) * 10) / 1_000_000
    )


def test_prefix_ends_with_the_last_answer_of_the_tier_when_another_one_stepped_in() -> None:
    one = conversation("cloud")
    meant = {"tier": "edge", "decision": {"tier": "cloud", "router": "as_told"}}
    stepped_in = AIMessage("Or no.", response_metadata={"hybridflow": meant})
    model = priced()
    model.invoke(one)
    model.invoke([*one, stepped_in, HumanMessage(LONG)])
    before, after = model.router.requests
    assert after.previous_tier == "cloud"
    assert after.cached_prompt_tokens == before.cached_prompt_tokens


def test_agents_conversation_stays_on_the_cloud_through_its_checkpoints(
    require: Callable[[str], None],
) -> None:
    require("langchain")
    from langchain.agents import create_agent

    call = {"name": "weather", "args": {"city": "Rome"}, "id": "functions.weather:0"}
    asks = AIMessage([{"type": "thinking", "thinking": "?", "signature": "?"}], tool_calls=[call])
    edge = ScriptedChatModel(responses=[asks, "Sunny."], model_name="little")
    cloud = ScriptedChatModel(responses=["Because."], model_name="big")
    model = sticky(edge=edge, cloud=cloud)
    agent = create_agent(model, [kit.weather], checkpointer=InMemorySaver())
    for text in (EASY, HARD, EASY):
        state = agent.invoke({"messages": [("user", text)]}, in_thread("alice"))
    answers = [message for message in state["messages"] if isinstance(message, AIMessage)]
    assert [tier_of(answer) for answer in answers] == ["edge", "edge", "cloud", "cloud"]
    asked, result = cloud.calls[0][1:3]
    assert asked.content == ""
    assert asked.tool_calls[0]["id"] == result.tool_call_id != "functions.weather:0"
    assert answers[0].content == asks.content
