"""The cloud endpoint's own log holds nothing of what was to stay local."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

from langchain_hybridflow import HybridFlowGraph, Plan, RoutedChatModel, Subtask
from langchain_hybridflow.routing import AlwaysCloud, KeepLocal, RouteDecision, RouteRequest
from langchain_hybridflow.sandbox.server import Fault, create_app, running_server
from langchain_hybridflow.testing import ScriptedChatModel

CANARY = "CANARY-4711"
PLAN = Plan(
    subtasks=[
        Subtask(id="1", task="What is given?", role="explain"),
        Subtask(id="2", task="Who is it?", depends_on=["1"]),
        Subtask(id="3", task="What is the weather?", depends_on=["1"]),
        Subtask(id="4", task="Write to them.", role="generate", depends_on=["2", "3"]),
    ]
)


@dataclass(frozen=True)
class Wire:
    """Two endpoints, each with a log of its own."""

    edge: Any
    cloud: Any
    model: RoutedChatModel
    broken: list[str]
    """As soon as something stands in here, the edge fails on prompts that hold the canary."""

    def assert_clean(self, *, cloud_calls: int | None = None) -> None:
        bodies = [str(record.body) for record in self.cloud.state.log]
        assert not [body for body in bodies if CANARY in body]
        if cloud_calls is not None:
            assert len(bodies) == cloud_calls

    def routed(self, **fields: Any) -> RoutedChatModel:
        return self.model.model_copy(update=fields)


class SecondOnTheEdge:
    def route(self, request: RouteRequest) -> RouteDecision:
        tier = "edge" if request.subtask_id == "2" else "cloud"
        return RouteDecision(tier=tier, reason="by name", router="test")


@pytest.fixture
def wire() -> Iterator[Wire]:
    broken: list[str] = []

    def answer(messages: list[BaseMessage]) -> Any:
        fails = broken and CANARY in messages[-1].text
        return OSError("down") if fails else f"It is {CANARY}."

    edge = create_app({"little": ScriptedChatModel(responses=[answer])})
    cloud = create_app({"big": ScriptedChatModel(responses=["from the cloud"])})
    with ExitStack() as stack:
        urls = [stack.enter_context(running_server(app)) for app in (edge, cloud)]
        clients = [
            ChatOpenAI(model=name, base_url=url, api_key="none", max_retries=0, timeout=30)
            for name, url in zip(("little", "big"), urls, strict=True)
        ]
        model = RoutedChatModel(
            edge=clients[0],
            cloud=clients[1],
            router=AlwaysCloud(),
            policy=KeepLocal(patterns={"a canary": CANARY}),
            max_retries=0,
            breaker=None,  # each call is to reach the servers
        )
        yield Wire(edge, cloud, model, broken)


PROMPTS = {
    "question": [HumanMessage(f"Who is {CANARY}?")],
    "history": [HumanMessage(CANARY), AIMessage("I see."), HumanMessage("Who?")],
    "tool call": [
        HumanMessage("Who?"),
        AIMessage("", tool_calls=[{"name": "find", "args": {"id": CANARY}, "id": "1"}]),
        ToolMessage("nobody", tool_call_id="1"),
    ],
    "tool result": [
        HumanMessage("Who?"),
        AIMessage("", tool_calls=[{"name": "find", "args": {}, "id": "1"}]),
        ToolMessage([{"type": "text", "text": CANARY}], tool_call_id="1"),
    ],
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())
@pytest.mark.parametrize("edge_is_down", [False, True])
async def test_cloud_sees_nothing_of_a_sensitive_call(
    wire: Wire, prompt: Any, edge_is_down: bool
) -> None:
    if edge_is_down:
        wire.edge.state.faults.add(Fault(kind="server_error", times=10))
    runs = [
        wire.model.ainvoke(prompt),
        _collected(wire.model, prompt),
        wire.model.abatch([prompt]),
        asyncio.to_thread(wire.model.invoke, prompt),
        asyncio.to_thread(lambda: list(wire.model.stream(prompt))),
        asyncio.to_thread(wire.model.batch, [prompt]),
    ]
    outcomes = [(await asyncio.gather(run, return_exceptions=True))[0] for run in runs]
    wire.assert_clean(cloud_calls=0)
    assert len(wire.edge.state.log) == len(runs)
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [edge_is_down] * len(runs)


async def _collected(model: RoutedChatModel, prompt: Any) -> list[Any]:
    return [chunk async for chunk in model.astream(prompt)]


async def test_cloud_sees_a_harmless_call(wire: Wire) -> None:
    answer = await wire.model.ainvoke("Who?")
    assert answer.text == "from the cloud"
    wire.assert_clean(cloud_calls=1)


async def test_cloud_sees_nothing_of_a_sensitive_question_in_a_graph(wire: Wire) -> None:
    graph = HybridFlowGraph(wire.model, planner=wire.model.cloud).compile()
    out = await graph.ainvoke({"messages": [("user", f"How long until {CANARY} comes, and why?")]})
    wire.assert_clean(cloud_calls=0)
    assert out["report"]["kept_local"]


@pytest.mark.parametrize("edge_fails_later", [False, True])
async def test_cloud_sees_nothing_of_a_sensitive_result_in_a_graph(
    wire: Wire, edge_fails_later: bool
) -> None:
    if edge_fails_later:
        wire.broken.append("by whatever builds on the result")
    graph = HybridFlowGraph(wire.routed(router=SecondOnTheEdge())).compile(plan=PLAN)
    out = await graph.ainvoke({"messages": [("user", "What is to be written, and why?")]})
    wire.assert_clean(cloud_calls=2)
    assert out["results"]["4"]["kept_local"]
    assert out["report"]["complete"] is not edge_fails_later


async def test_cloud_sees_nothing_of_a_sensitive_conversation_in_a_graph(wire: Wire) -> None:
    graph = HybridFlowGraph(wire.model).compile(plan=PLAN)
    messages = [("user", f"I am {CANARY}."), ("ai", "Welcome."), ("user", "What next, and why?")]
    await graph.ainvoke({"messages": messages})
    wire.assert_clean(cloud_calls=0)
