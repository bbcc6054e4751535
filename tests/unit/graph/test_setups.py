"""Models, limits and approval chosen for each run by LangGraph's runtime context."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from flowkit import CHAIN, DIAMOND, Face, ask, make_flow, planning_worker, thread, worker
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command
from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import TypedDict

from langchain_hybridflow import Budget, HybridFlowGraph, Limits, RoutedChatModel, Scope
from langchain_hybridflow.errors import BudgetExceeded, ConfigurationError
from langchain_hybridflow.graph import setups
from langchain_hybridflow.routing import AlwaysCloud, AlwaysEdge
from langchain_hybridflow.verify import SelfConsistency


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True)

    tier: Literal["edge", "cloud"] = "edge"
    calls: int | None = None
    on_exhausted: Literal["edge", "raise", "ask"] = "edge"
    approve: bool = False
    verify: bool = False


class World:
    """Two models and one budget for all settings."""

    def __init__(self) -> None:
        self.edge, self.cloud = worker(), worker(model_name="cloud")
        self.budget = Budget(max_cloud_calls=6)
        self.made: list[Any] = []
        self.threads: set[int] = set()

    def model(self, settings: Settings) -> RoutedChatModel:
        self.made.append(settings)
        self.threads.add(threading.get_ident())
        return RoutedChatModel(
            edge=self.edge,
            cloud=self.cloud,
            router=AlwaysCloud() if settings.tier == "cloud" else AlwaysEdge(),
            verify=SelfConsistency(samples=2) if settings.verify else None,
            budget=Budget(
                max_cloud_calls=6,
                per_run=Limits(cloud_calls=settings.calls),
                on_exhausted=settings.on_exhausted,
                ledger=self.budget.ledger,
            ),
        )

    def graph(self, checkpointer: Any = None, **kwargs: Any) -> Any:
        flow = HybridFlowGraph(
            self.model,
            context_schema=Settings,
            approve_cloud=lambda settings: settings.approve,
        )
        return flow.compile(checkpointer, plan=CHAIN, **kwargs)


@pytest.fixture
def world() -> World:
    return World()


def tiers(out: Any) -> list[str]:
    return [out["results"][key]["tier"] for key in "123"]


async def test_context_chooses_the_model_of_a_run(face: Face, world: World) -> None:
    graph = world.graph()
    chosen = await face.invoke(graph, ask(), context={"tier": "cloud"})
    by_default = await face.invoke(graph, ask())
    assert (tiers(chosen), tiers(by_default)) == (["cloud"] * 3, ["edge"] * 3)


async def test_model_is_made_once_for_equal_contexts(face: Face, world: World) -> None:
    graph = world.graph()
    for context in (Settings(tier="cloud"), {"tier": "cloud"}, Settings(), None, {}):
        await face.invoke(graph, ask(), context=context)
    assert world.made == [Settings(tier="cloud"), Settings()]


async def test_model_is_made_off_the_event_loop(world: World) -> None:
    await world.graph().ainvoke(ask())
    assert threading.get_ident() not in world.threads


async def test_model_is_made_off_the_event_loop_when_more_contexts_run_than_are_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setups, "_KEPT", 1)
    graph = world.graph()
    await asyncio.gather(*(graph.ainvoke(ask(), context=Settings(calls=n)) for n in range(4)))
    assert len(world.made) >= 4
    assert threading.get_ident() not in world.threads


async def test_concurrent_runs_keep_to_their_own_contexts(world: World) -> None:
    graph = world.graph()
    contexts = [Settings(tier="cloud", calls=1), Settings(), Settings(tier="cloud", calls=2)]
    outs = await asyncio.gather(*(graph.ainvoke(ask(), context=one) for one in contexts))
    assert [tiers(out).count("cloud") for out in outs] == [1, 0, 2]


async def test_limit_of_a_context_cannot_raise_that_of_the_ledger(face: Face, world: World) -> None:
    graph = world.graph()
    context = Settings(tier="cloud", calls=1_000)
    outs = [await face.invoke(graph, ask(), context=context) for _ in range(3)]
    assert [tiers(out).count("cloud") for out in outs] == [3, 3, 0]


async def test_on_exhausted_of_a_context_holds(face: Face, world: World) -> None:
    context = Settings(tier="cloud", calls=1, on_exhausted="raise")
    out = await face.invoke(world.graph(), ask(), context=context)
    assert out["results"]["2"]["status"] == "failed"
    assert BudgetExceeded.__name__ in out["results"]["2"]["error"]


async def test_question_about_the_budget_is_asked_if_the_context_wants_it(
    face: Face, world: World
) -> None:
    graph = world.graph(InMemorySaver())
    context = Settings(tier="cloud", calls=1, on_exhausted="ask")
    out = await face.invoke(graph, ask(), thread(), context=context)
    assert out["__interrupt__"][0].value["type"] == "budget_exhausted"
    resume = Command(resume={"approve": True})
    out = await face.invoke(graph, resume, thread(), context=context)
    assert tiers(out) == ["cloud"] * 3


async def test_approval_holds_when_a_run_is_resumed_without_its_context(
    face: Face, world: World
) -> None:
    graph = world.graph(InMemorySaver())
    context = Settings(tier="cloud", approve=True)
    out = await face.invoke(graph, ask(), thread(), context=context)
    assert out["__interrupt__"][0].value["subtask_id"] == "1"
    out = await face.invoke(graph, Command(resume={"approve": False}), thread())
    assert (tiers(out), world.cloud.calls) == (["edge"] * 3, [])


async def test_approval_can_be_chosen_for_one_model(face: Face) -> None:
    flow = make_flow(
        router=AlwaysCloud(),
        context_schema=Settings,
        approve_cloud=lambda settings: settings.approve,
    )
    graph = flow.compile(InMemorySaver(), plan=CHAIN)
    assert tiers(await face.invoke(graph, ask(), thread("a"))) == ["cloud"] * 3
    out = await face.invoke(graph, ask(), thread("b"), context=Settings(approve=True))
    assert "__interrupt__" in out


async def test_verifier_of_a_context_looks_at_answers(face: Face, world: World) -> None:
    out = await face.invoke(world.graph(), ask(), context=Settings(verify=True))
    purposes = [attempt["purpose"] for attempt in out["results"]["1"]["attempts"]]
    assert purposes == ["answer", "verify"]


async def test_models_of_all_contexts_share_the_slots(world: World) -> None:
    edge = planning_worker(DIAMOND)
    flow = HybridFlowGraph(
        lambda settings: RoutedChatModel(edge=edge, cloud=worker(), router=AlwaysEdge()),
        context_schema=Settings,
        edge_slots=1,
    )
    graph = flow.compile(plan=DIAMOND)
    await asyncio.gather(*(graph.ainvoke(ask(), context={"calls": n}) for n in range(4)))
    assert (edge.max_concurrency_seen, len(edge.calls)) == (1, 16)


async def test_graph_in_another_one_reads_its_context(face: Face, world: World) -> None:
    outer = StateGraph(MessagesState, context_schema=Settings)
    outer.add_node("ask", world.graph())
    outer.add_edge(START, "ask")
    outer.add_edge("ask", END)
    await face.invoke(outer.compile(), ask(), context=Settings(tier="cloud"))
    assert world.made == [Settings(tier="cloud")]


async def test_context_of_another_graph_is_refused(face: Face, world: World) -> None:
    @dataclass(frozen=True)
    class Other:
        name: str = "ada"

    outer = StateGraph(MessagesState, context_schema=Other)
    outer.add_node("ask", world.graph())
    outer.add_edge(START, "ask")
    with pytest.raises(ConfigurationError, match="is a Other, and this graph takes a Settings"):
        await face.invoke(outer.compile(), ask(), context=Other())


async def test_wrong_context_is_an_error_that_names_the_field(face: Face, world: World) -> None:
    with pytest.raises(ValidationError, match="tier"):
        await face.invoke(world.graph(), ask(), context={"tier": "moon"})
    assert world.made == []


async def test_missing_context_is_an_error_when_the_schema_wants_one(
    face: Face, world: World
) -> None:
    @dataclass(frozen=True)
    class Wanted:
        user: str

    flow = HybridFlowGraph(world.model, context_schema=Wanted)
    with pytest.raises(ConfigurationError, match=r"does not make a Wanted.*context="):
        await face.invoke(flow.compile(), ask())


async def test_context_that_cannot_be_hashed_is_an_error(face: Face, world: World) -> None:
    @dataclass(frozen=True)
    class Listed:
        names: Any

    flow = HybridFlowGraph(world.model, context_schema=Listed)
    with pytest.raises(ConfigurationError, match="cannot be hashed"):
        await face.invoke(flow.compile(), ask(), context=Listed(names=["a"]))


async def test_error_of_the_function_ends_the_run_and_the_next_one_tries_again(
    face: Face, world: World
) -> None:
    faults = [OSError("no such key"), None]

    def model(settings: Settings) -> RoutedChatModel:
        fault = faults.pop(0)
        if fault is not None:
            raise fault
        return world.model(settings)

    graph = HybridFlowGraph(model, context_schema=Settings).compile(plan=CHAIN)
    with pytest.raises(OSError, match="no such key"):
        await face.invoke(graph, ask())
    assert (await face.invoke(graph, ask()))["report"]["complete"]


class Mutable(BaseModel):
    tier: str = "edge"


class Typed(TypedDict):
    tier: str


class Identity:
    tier = "edge"


@pytest.mark.parametrize("schema", [Mutable, Typed, Identity, "Settings"])
def test_schema_whose_contexts_cannot_be_told_apart_is_refused(world: World, schema: Any) -> None:
    with pytest.raises(ConfigurationError, match="frozen"):
        HybridFlowGraph(world.model, context_schema=schema)


def test_function_without_a_schema_is_refused(world: World) -> None:
    with pytest.raises(ConfigurationError, match="context_schema"):
        HybridFlowGraph(world.model)


async def test_function_that_makes_no_routed_model_is_refused(face: Face) -> None:
    graph = HybridFlowGraph(lambda _: worker(), context_schema=Settings).compile()
    with pytest.raises(ConfigurationError, match="ScriptedChatModel"):
        await face.invoke(graph, ask())


def test_form_is_the_schema_of_the_graph(world: World) -> None:
    form = world.graph().get_context_jsonschema()
    assert form["properties"]["tier"]["enum"] == ["edge", "cloud"]


def test_drawing_shows_all_ways_that_a_context_can_open(world: World) -> None:
    drawn = {(edge.source, edge.target) for edge in world.graph().get_graph(xray=True).edges}
    ways = ["edge cloud", "cloud edge", "edge verify", "verify cloud", "cloud ask", "ask cloud"]
    pairs = [way.split() for way in ways]
    assert {(f"analyze_2:{one}", f"analyze_2:{other}") for one, other in pairs} <= drawn


def test_drawing_makes_no_model(world: World) -> None:
    world.graph().get_graph(xray=True).draw_mermaid()
    assert world.made == []


async def test_one_model_can_read_a_typed_context(face: Face) -> None:
    @dataclass
    class Caller:
        user_id: str

    budget = Budget(scopes=[Scope("user", Limits(cloud_calls=1))])
    flow = make_flow(router=AlwaysCloud(), budget=budget, context_schema=Caller)
    graph = flow.compile(plan=CHAIN)
    for user in ("ada", "bob"):
        out = await face.invoke(graph, ask(), context={"user_id": user})
        assert tiers(out).count("cloud") == 1


async def test_no_more_models_are_kept_than_are_of_use(world: World) -> None:
    graph = world.graph()
    for calls in range(80):
        await graph.ainvoke(ask(), context={"calls": calls})
    await graph.ainvoke(ask(), context={"calls": 79})
    assert len(world.made) == 80
    await graph.ainvoke(ask(), context={"calls": 0})
    assert len(world.made) == 81
