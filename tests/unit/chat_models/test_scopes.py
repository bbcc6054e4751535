"""Whom a call is for, on every way in; and who is asked when there is not enough."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from routedkit import (
    ANSWER,
    PROMPT,
    Way,
    by_astream,
    by_stream,
    every_way,
    obedient,
    scripted,
    weather,
)

from langchain_hybridflow import Budget, Limits, RoutedChatModel
from langchain_hybridflow.budget import Amounts, Scope
from langchain_hybridflow.calls import asking
from langchain_hybridflow.calls.asking import can_ask
from langchain_hybridflow.chat_models.context import CallContext
from langchain_hybridflow.errors import (
    BudgetExceeded,
    ConfigurationError,
    LedgerUnavailable,
    NobodyToAsk,
)
from langchain_hybridflow.testing import OutageLedger


def each_user(calls: int = 1, **fields: Any) -> Budget:
    return Budget(scopes=[Scope("user", Limits(cloud_calls=calls))], **fields)


def for_user(name: str | None, **fields: Any) -> Any:
    return {"configurable": {"user_id": name, **fields}}


def spent_by(budget: Budget, name: str) -> int:
    state = budget.snapshot(budget.scope_values(for_user(name)))
    spent: int = state["scopes"][0]["cloud_calls"]["spent"]
    return spent


def node_graph(model: Any, *, checkpointer: Any = None, context_schema: Any = None) -> Any:
    """A graph of somebody else, with a node for each face of a model."""

    def call(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def acall(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState, context_schema=context_schema)
    graph.add_node("ask", RunnableLambda(call, acall))
    graph.add_edge(START, "ask")
    return graph.compile(checkpointer)


ASKED = {"messages": [HumanMessage(PROMPT)]}


# ------------------------------------------------------------------------- every way in


@every_way
async def test_call_is_counted_for_the_user_of_its_config(way: Way) -> None:
    budget = each_user()
    model = scripted("cloud", budget=budget)
    await way(model, config=for_user("ada"))
    assert (spent_by(budget, "ada"), spent_by(budget, "bob")) == (1, 0)


@every_way
async def test_call_for_nobody_is_refused_before_any_model_is_asked(way: Way) -> None:
    model = scripted("cloud", budget=each_user())
    with pytest.raises(ConfigurationError, match="user_id"):
        await way(model)
    assert model.cloud.calls == model.edge.calls == []  # type: ignore[attr-defined]


@every_way
async def test_call_with_a_broken_user_is_refused_before_any_model_is_asked(way: Way) -> None:
    model = scripted("cloud", budget=each_user())
    for wrong in ("a\x00da", "x" * 10_240):
        with pytest.raises(ConfigurationError):
            await way(model, config=for_user(wrong))
    assert model.cloud.calls == model.edge.calls == []  # type: ignore[attr-defined]


@every_way
async def test_user_beyond_the_limit_gets_the_edge_and_it_is_said(way: Way) -> None:
    model = scripted("cloud", budget=each_user(0))
    record = (await way(model, config=for_user("ada"))).response_metadata["hybridflow"]
    assert (record["tier"], record["degraded"]) == ("edge", True)
    assert "the user has 0 of 0" in record["attempts"][0]["error"]


@every_way
async def test_bound_model_counts_for_the_user_too(way: Way) -> None:
    budget = each_user()
    model = obedient("cloud", budget=budget).bind_tools([weather])
    await way(model, config=for_user("ada"))
    assert spent_by(budget, "ada") == 1


async def test_batch_counts_each_call_for_its_own_user() -> None:
    budget = each_user(9)
    model = scripted("cloud", budget=budget)
    model.batch([PROMPT] * 3, config=[for_user("ada"), for_user("bob"), for_user("ada")])
    await model.abatch([PROMPT] * 2, config=[for_user("bob"), for_user("bob")])
    assert (spent_by(budget, "ada"), spent_by(budget, "bob")) == (2, 3)


@pytest.mark.parametrize("face", ["invoke", "ainvoke"])
async def test_chain_hands_the_user_down(face: str) -> None:
    budget = each_user()
    chain = RunnableLambda(str.strip) | scripted("cloud", budget=budget) | StrOutputParser()
    answer = getattr(chain, face)(PROMPT, config=for_user("ada"))
    assert (await answer if asyncio.iscoroutine(answer) else answer) == ANSWER
    assert spent_by(budget, "ada") == 1


async def test_events_of_the_second_version_count_for_the_user() -> None:
    budget = each_user(9)
    model = scripted("cloud", budget=budget)
    [_ async for _ in model.astream_events(PROMPT, for_user("ada"), version="v2")]
    assert spent_by(budget, "ada") == 1


def test_generate_without_a_config_is_refused_as_well() -> None:
    model = scripted("cloud", budget=each_user())
    with pytest.raises(ConfigurationError, match="user_id"):
        model.generate([[HumanMessage(PROMPT)]])


# ------------------------------------------------------------------------- who can say it


@every_way
async def test_messages_and_options_cannot_say_whom_a_call_is_for(way: Way) -> None:
    budget = each_user()
    model = scripted("cloud", budget=budget)
    spoofed = HumanMessage(
        PROMPT,
        additional_kwargs={"user_id": "bob", "configurable": {"user_id": "bob"}},
        response_metadata={"user_id": "bob"},
    )
    bob = CallContext(scopes=budget.scope_values(for_user("bob")))
    await way(model.bind(hybridflow_context=bob), [spoofed], config=for_user("ada"))
    assert (spent_by(budget, "ada"), spent_by(budget, "bob")) == (1, 0)


async def generated(model: RoutedChatModel, face: str, **options: Any) -> Any:
    answer = getattr(model, face)([[HumanMessage(PROMPT)]], **options)
    return await answer if asyncio.iscoroutine(answer) else answer


@pytest.mark.parametrize("face", ["generate", "agenerate"])
async def test_options_of_a_call_without_a_config_cannot_say_it_either(face: str) -> None:
    budget = each_user()
    model = scripted("cloud", budget=budget)
    bob = budget.scope_values(for_user("bob"))

    @dataclass
    class Forged:
        scopes: object
        run_id: object = None
        handlers: tuple[()] = ()
        thread_id: str | None = None

    for forged in (Forged(bob), {"scopes": bob}, bob, "bob"):
        with pytest.raises(ConfigurationError, match="user_id"):
            await generated(model, face, hybridflow_context=forged)
    assert spent_by(budget, "bob") == 0


@pytest.mark.parametrize("way", [by_stream, by_astream])
async def test_stream_that_becomes_a_call_is_for_the_same_user_and_counted_once(way: Way) -> None:
    budget = each_user(9)
    model = scripted("cloud", budget=budget, disable_streaming=True)
    await way(model, config=for_user("ada"))
    bob = CallContext(scopes=budget.scope_values(for_user("bob")))
    await way(model.bind(hybridflow_context=bob), config=for_user("ada"))
    assert (spent_by(budget, "ada"), spent_by(budget, "bob")) == (2, 0)


async def test_authenticated_user_goes_before_whatever_a_client_writes() -> None:
    budget = each_user()
    model = scripted("cloud", budget=budget)
    await model.ainvoke(PROMPT, for_user("bob", langgraph_auth_user={"identity": "ada"}))
    assert (spent_by(budget, "ada"), spent_by(budget, "bob")) == (1, 0)


@every_way
async def test_nobody_else_learns_whom_a_call_is_for(way: Way) -> None:
    seen: list[str] = []

    class Spy(BaseCallbackHandler):
        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            seen.append(repr((args, kwargs)))

    model = scripted("cloud", budget=each_user())
    config = {**for_user("ada-CANARY"), "callbacks": [Spy()]}
    await way(model, config=config)
    assert len(seen) == 1
    assert "CANARY" not in seen[0]
    assert "hybridflow_context" not in seen[0]
    assert "hybridflow_context" not in model.cloud.call_kwargs[0]  # type: ignore[attr-defined]


@every_way
async def test_budget_without_scopes_wants_to_know_nothing(way: Way) -> None:
    model = scripted("cloud", budget=Budget(max_cloud_calls=9))
    await way(model, config=for_user("a\x00"))


# ------------------------------------------------------------------------- inside graphs


@dataclass
class Context:
    user_id: str


@pytest.mark.parametrize("face", ["invoke", "ainvoke"])
@pytest.mark.parametrize(
    ("config", "context"),
    [(for_user("ada"), None), (None, {"user_id": "ada"}), (for_user("bob"), {"user_id": "ada"})],
    ids=["config", "context", "both"],
)
async def test_call_in_a_node_is_for_the_user_of_the_graph(
    face: str, config: Any, context: Any
) -> None:
    budget = each_user()
    schema = Context if context else None
    graph = node_graph(scripted("cloud", budget=budget), context_schema=schema)
    given = Context(**context) if context else None
    answer = getattr(graph, face)(ASKED, config, context=given)
    await answer if asyncio.iscoroutine(answer) else answer
    assert (spent_by(budget, "ada"), spent_by(budget, "bob")) == (1, 0)


def test_config_that_a_node_gives_to_a_call_goes_before_that_of_the_graph() -> None:
    budget = each_user(9)
    model = scripted("cloud", budget=budget)

    def call(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        model.invoke(PROMPT, for_user("bob"))
        model.invoke(PROMPT, {"configurable": {"other": 1}})
        model.invoke(PROMPT, config)
        return {}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", call)
    graph.add_edge(START, "ask")
    graph.compile().invoke(ASKED, for_user("ada"))
    assert (spent_by(budget, "ada"), spent_by(budget, "bob")) == (2, 1)


def test_state_of_a_graph_cannot_say_whom_a_call_is_for() -> None:
    budget = each_user()
    graph = node_graph(scripted("cloud", budget=budget))
    with pytest.raises(ConfigurationError, match="user_id"):
        graph.invoke({**ASKED, "user_id": "bob", "configurable": {"user_id": "bob"}})


@pytest.mark.parametrize("face", ["invoke", "ainvoke"])
async def test_agent_pays_for_its_user(face: str) -> None:
    budget = each_user(9)
    agent = create_agent(obedient("cloud", budget=budget), [weather], context_schema=Context)
    asked = {"messages": [("user", "Is there good weather in Rome?")]}
    answer = getattr(agent, face)(asked, context=Context("ada"))
    await answer if asyncio.iscoroutine(answer) else answer
    assert spent_by(budget, "ada") == 2


def test_thread_of_a_graph_is_a_scope() -> None:
    budget = Budget(scopes=[Scope("thread", Limits(cloud_calls=1))])
    graph = node_graph(scripted("cloud", budget=budget), checkpointer=InMemorySaver())

    def tier(thread: str) -> str:
        out = graph.invoke(ASKED, {"configurable": {"thread_id": thread}})
        told: str = out["messages"][-1].response_metadata["hybridflow"]["tier"]
        return told

    assert [tier("1"), tier("1"), tier("2")] == ["cloud", "edge", "cloud"]


# ------------------------------------------------------------------------- a store that is away


@every_way
async def test_no_model_is_asked_when_the_store_does_not_answer(way: Way) -> None:
    ledger = OutageLedger()
    ledger.state = "down"
    model = scripted("cloud", budget=Budget(max_cloud_calls=1, ledger=ledger))
    with pytest.raises(LedgerUnavailable):
        await way(model)
    assert model.cloud.calls == model.edge.calls == []  # type: ignore[attr-defined]


# ------------------------------------------------------------------------- a person is asked

THREAD = {"configurable": {"thread_id": "t"}}


def asking_model(**fields: Any) -> RoutedChatModel:
    return scripted("cloud", budget=Budget(max_cloud_calls=0, on_exhausted="ask"), **fields)


async def by_face(graph: Any, face: str, given: Any) -> Any:
    if face == "stream":
        return list(graph.stream(given, THREAD, stream_mode="values"))[-1]
    answer = getattr(graph, face)(given, THREAD)
    return await answer if asyncio.iscoroutine(answer) else answer


faces = pytest.mark.parametrize("face", ["invoke", "ainvoke", "stream"])


@faces
async def test_person_is_asked_with_the_numbers_and_the_cloud_answers_when_they_approve(
    face: str,
) -> None:
    model = asking_model()
    graph = node_graph(model, checkpointer=InMemorySaver())
    out = await by_face(graph, face, ASKED)
    (question,) = (one.value for one in out["__interrupt__"])
    assert model.cloud.calls == model.edge.calls == []  # type: ignore[attr-defined]
    assert question["type"] == "budget_exhausted"
    numbers = {"dimension": "cloud_calls", "requested": 1, "remaining": 0, "limit": 0}
    assert {name: question[name] for name in numbers} == numbers
    assert question["limits"] == [{"scope": "budget", "window": None, **numbers}]
    assert question["approval_costs_up_to"]["cloud_calls"] == 1
    out = await by_face(graph, face, Command(resume=question["resume_with"]))
    record = out["messages"][-1].response_metadata["hybridflow"]
    assert (record["tier"], record["degraded"]) == ("cloud", False)
    state = model.budget.snapshot()
    assert (state["cloud_calls"]["spent"], state["allowance"]["cloud_calls"]) == (1, 1)


def test_approval_of_a_small_call_does_not_reach_for_a_larger_one() -> None:
    """LangGraph runs the node again, and gives its first question the first answer."""
    model = scripted("cloud", budget=Budget(max_cloud_tokens=5_000, on_exhausted="ask"))
    others = []

    def call(state: MessagesState) -> dict[str, Any]:
        large = model.invoke(PROMPT, max_tokens=1_000)
        if not others:  # somebody else spends the rest meanwhile
            left = model.budget.snapshot()["cloud_tokens"]["remaining"]
            others.append(model.budget.start_run().reserve("x", Amounts(cloud_tokens=left)))
        return {"messages": [large, model.invoke(PROMPT, max_tokens=20)]}

    graph = StateGraph(MessagesState).add_node("call", call).add_edge(START, "call")
    app = graph.compile(InMemorySaver())
    out = app.invoke(ASKED, THREAD)
    asked = []
    while "__interrupt__" in out:
        (question,) = (one.value for one in out["__interrupt__"])
        asked.append(question["approval_costs_up_to"])
        assert question["resume_with"] == {"approve": True, "up_to": asked[-1]}
        out = app.invoke(Command(resume=question["resume_with"]), THREAD)
    assert asked == [asked[0]] * 2  # of the small call, both times
    records = [one.response_metadata["hybridflow"] for one in out["messages"][-2:]]
    assert [one["tier"] for one in records] == ["edge", "cloud"]


@pytest.mark.parametrize(
    ("verdict", "tier"),
    [
        (True, "cloud"),
        ({"approve": True, "up_to": {"cloud_calls": 1}}, "cloud"),
        ({"approve": True, "up_to": {"cloud_calls": 0}}, "edge"),
        ({"approve": True, "up_to": {"cloud_tokens": 1}}, "edge"),
        ({"approve": True, "up_to": {"dollars": 5}}, "edge"),
        ({"approve": True, "up_to": 5}, "edge"),
        ({"approve": False, "up_to": {"cloud_calls": 1}}, "edge"),
    ],
)
def test_approval_holds_up_to_what_it_says(verdict: Any, tier: str) -> None:
    graph = node_graph(asking_model(), checkpointer=InMemorySaver())
    graph.invoke(ASKED, THREAD)
    out = graph.invoke(Command(resume=verdict), THREAD)
    assert out["messages"][-1].response_metadata["hybridflow"]["tier"] == tier


@faces
async def test_edge_answers_when_the_person_declines(face: str) -> None:
    model = asking_model()
    graph = node_graph(model, checkpointer=InMemorySaver())
    await by_face(graph, face, ASKED)
    out = await by_face(graph, face, Command(resume={"approve": False}))
    record = out["messages"][-1].response_metadata["hybridflow"]
    assert (record["tier"], record["degraded"]) == ("edge", True)
    assert model.budget.snapshot()["allowance"]["cloud_calls"] == 0


@pytest.mark.parametrize("face", ["invoke", "astream"])
async def test_streamed_call_in_a_node_asks_too(face: str) -> None:
    model = asking_model()

    async def acall(state: MessagesState) -> dict[str, Any]:
        text = [chunk.text async for chunk in model.astream(state["messages"])]
        return {"messages": [("ai", "".join(text))]}

    def call(state: MessagesState) -> dict[str, Any]:
        text = [chunk.text for chunk in model.stream(state["messages"])]
        return {"messages": [("ai", "".join(text))]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", RunnableLambda(call, acall))
    builder.add_edge(START, "ask")
    graph = builder.compile(InMemorySaver())
    asked = graph.invoke if face == "invoke" else graph.ainvoke
    for given in (ASKED, Command(resume="yes")):
        answer = asked(given, THREAD)
        out = await answer if asyncio.iscoroutine(answer) else answer
    assert out["messages"][-1].text == ANSWER


@every_way
async def test_call_outside_a_graph_says_that_there_is_nobody_to_ask(way: Way) -> None:
    model = asking_model()
    with pytest.raises(NobodyToAsk, match="checkpointer") as caught:
        await way(model)
    assert isinstance(caught.value, BudgetExceeded)
    assert isinstance(caught.value, ConfigurationError)
    assert caught.value.limit == 0
    assert model.edge.calls == []  # type: ignore[attr-defined]


def test_call_in_a_graph_without_a_checkpointer_says_that_there_is_nobody_to_ask() -> None:
    with pytest.raises(NobodyToAsk):
        node_graph(asking_model()).invoke(ASKED, THREAD)


def test_langgraph_keeps_what_is_looked_for_where_it_is_looked_for() -> None:
    """The contract with LangGraph that `can_ask` stands on."""
    from langgraph._internal import _constants as constants

    assert asking._CHECKPOINTER == constants.CONFIG_KEY_CHECKPOINTER
    assert asking._SCRATCHPAD == constants.CONFIG_KEY_SCRATCHPAD
    seen: list[tuple[bool, bool]] = []

    def look(state: MessagesState) -> dict[str, Any]:
        seen.append((can_ask(), "__pregel_runtime" in get_config()["configurable"]))
        return {}

    graph = StateGraph(MessagesState)
    graph.add_node("look", look)
    graph.add_edge(START, "look")
    graph.compile(InMemorySaver()).invoke(ASKED, THREAD)
    graph.compile().invoke(ASKED)
    assert seen == [(True, True), (False, True)]
    assert not can_ask()
    assert "langgraph" in sys.modules


@pytest.mark.parametrize("face", ["invoke", "ainvoke"])
async def test_person_is_asked_when_the_ledger_lets_the_event_loop_go_too(face: str) -> None:
    budget = Budget(
        max_cloud_calls=0,
        on_exhausted="ask",
        ledger=OutageLedger(),
        on_store_failure="open",
        fail_open_limit=Limits(cloud_calls=1),
    )
    assert budget.start_run().suspends
    graph = node_graph(scripted("cloud", budget=budget), checkpointer=InMemorySaver())
    assert len((await by_face(graph, face, ASKED))["__interrupt__"]) == 1
    out = await by_face(graph, face, Command(resume="yes"))
    assert out["messages"][-1].response_metadata["hybridflow"]["tier"] == "cloud"


# ------------------------------------------------------------------------- models that travel


def test_pickled_model_counts_on_in_the_store_of_its_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BUDGET_STORE", "memory://")
    budget = Budget(
        store="env:BUDGET_STORE", scopes=[Scope("user", Limits(cloud_calls=1), window="day")]
    )
    again = pickle.loads(pickle.dumps(obedient("cloud", budget=budget)))
    assert (again.budget.store, again.budget.scopes) == ("env:BUDGET_STORE", budget.scopes)
    answer = again.invoke(PROMPT, for_user("ada"))
    assert answer.response_metadata["hybridflow"]["tier"] == "cloud"


def test_written_down_model_holds_no_password_of_a_store() -> None:
    budget = Budget(store="memory://")
    budget.store = "redis://:hunter2-CANARY@db.example/0"
    model = obedient(budget=budget)
    assert "CANARY" not in json.dumps(dumpd(model), default=repr)
    assert "CANARY" not in repr(model)


def test_written_down_model_names_the_store_when_it_has_no_password() -> None:
    model = obedient(budget=Budget(store="memory://", window="day"))
    settings = dumpd(model)["kwargs"]["budget"]
    assert settings == {"store": "memory://", "window": "day"}
