"""The last subtask can be paid for before all others, and nothing of that is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flowkit import (
    CHAIN,
    DIAMOND,
    Face,
    Held,
    ask,
    asked,
    assert_at_rest,
    make_flow,
    planning_worker,
    thread,
    until,
    wide_plan,
    worker,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.types import Command

from langchain_hybridflow import Budget, HybridFlowGraph, Price
from langchain_hybridflow.errors import SubtaskError
from langchain_hybridflow.graph.finals import final_bound
from langchain_hybridflow.routing import AlwaysCloud, RouteDecision, RouteRequest

WIDE = wide_plan(4)


class EdgeFor:
    """Sends the subtasks named to the edge, and all others to the cloud."""

    def __init__(self, *subtasks: str) -> None:
        self.subtasks = subtasks

    def route(self, request: RouteRequest) -> RouteDecision:
        tier = "edge" if request.subtask_id in self.subtasks else "cloud"
        return RouteDecision(tier=tier, reason="by name", router="test")


@pytest.fixture
def edge():
    return worker()


@pytest.fixture
def cloud():
    return worker(model_name="cloud")


def flow_of(edge: Any, cloud: Any, calls: int, **fields: Any) -> HybridFlowGraph:
    given = {"router": AlwaysCloud(), "reserve_final": True, **fields}
    return make_flow(edge, cloud, budget=Budget(max_cloud_calls=calls), **given)


def held(flow: HybridFlowGraph) -> int:
    count: int = flow.model.budget.snapshot()["cloud_calls"]["held"]
    return count


async def test_last_subtask_gets_the_cloud_though_the_others_wanted_it_all(face: Face, edge, cloud):
    flow = flow_of(edge, cloud, 2)
    out = await face.invoke(flow.compile(plan=WIDE), ask())
    assert asked(cloud) == ["1", "end"]
    assert out["results"]["end"]["tier"] == "cloud"
    assert_at_rest(flow)


async def test_last_subtask_starves_when_nothing_is_held_for_it(face: Face, edge, cloud):
    flow = flow_of(edge, cloud, 2, reserve_final=False)
    out = await face.invoke(flow.compile(plan=WIDE), ask())
    assert out["results"]["end"]["tier"] == "edge"


async def test_plan_that_is_made_at_run_time_holds_it_too(face: Face, cloud):
    flow = flow_of(planning_worker(WIDE), cloud, 1, planner="always", stream_plan=False)
    out = await face.invoke(flow.compile(), ask())
    assert asked(cloud) == ["end"]
    assert out["report"]["complete"]
    assert_at_rest(flow)


async def test_money_is_held_to_the_cent_and_spent_as_it_comes(face: Face, edge, cloud):
    budget = Budget(limit_usd=1, prices={"cloud": Price(2, 8)})
    flow = make_flow(edge, cloud, router=AlwaysCloud(), budget=budget, reserve_final=True)
    bound = final_bound(flow.model.core, DIAMOND, "Why?")
    assert 0 < bound.usd < 1
    out = await face.invoke(flow.compile(plan=DIAMOND), ask())
    spent = flow.model.budget.snapshot()["usd"]["spent"]
    assert float(out["report"]["totals"]["cost_usd"]) == pytest.approx(spent)
    assert_at_rest(flow)


async def test_what_is_held_goes_back_when_the_edge_gives_the_final_answer(face: Face, edge, cloud):
    flow = flow_of(edge, cloud, 9, router=EdgeFor("3"))
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert out["results"]["3"]["tier"] == "edge"
    assert_at_rest(flow)


async def test_what_is_held_goes_back_when_the_run_fails(face: Face, edge):
    cloud = worker({"2": ValueError("no")}, model_name="cloud")
    model = {"on_cloud_error": "raise"}
    flow = flow_of(edge, cloud, 9, model=model, on_subtask_error="raise")
    with pytest.raises(SubtaskError):
        await face.invoke(flow.compile(plan=CHAIN), ask())
    assert held(flow) == 0


async def test_what_is_held_goes_back_when_the_last_subtask_is_never_reached(face: Face, edge):
    cloud = worker({"1": ValueError("no")}, model_name="cloud")
    flow = flow_of(edge, cloud, 9, model={"on_cloud_error": "raise"})
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert out["results"]["3"]["status"] == "skipped"
    assert_at_rest(flow)


async def test_what_is_held_goes_back_while_a_person_is_asked_and_is_held_again(
    face: Face, edge, cloud
):
    flow = flow_of(edge, cloud, 9, router=EdgeFor("1", "3"), approve_cloud=True)
    graph = flow.compile(InMemorySaver(), plan=CHAIN)
    out = await face.invoke(graph, ask(), thread())
    assert "__interrupt__" in out
    assert held(flow) == 0
    await face.invoke(graph, Command(resume="yes"), thread())
    assert_at_rest(flow)


async def test_what_is_held_goes_back_when_the_run_is_cancelled(edge):
    slow = Held()
    cloud = worker({"2": slow}, model_name="cloud")
    flow = flow_of(edge, cloud, 9)
    task = asyncio.create_task(flow.compile(plan=CHAIN).ainvoke(ask()))
    await slow.began.wait_async()
    assert held(flow) == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: held(flow) == 0)
    slow.release.open()


async def test_run_goes_on_without_it_when_there_is_not_enough_to_hold(face: Face, edge, cloud):
    flow = flow_of(edge, cloud, 0)
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert out["report"]["complete"]
    assert cloud.calls == []
    assert_at_rest(flow)


async def test_plan_of_one_subtask_holds_nothing_beforehand(face: Face, edge, cloud):
    flow = flow_of(edge, cloud, 1)
    await face.invoke(flow.compile(), ask("Name a colour."))
    assert flow.model.budget.snapshot()["cloud_calls"]["spent"] == 1
    assert_at_rest(flow)


async def test_nothing_is_held_when_a_stream_is_closed_before_a_subtask_starts(edge, cloud):
    flow = flow_of(edge, cloud, 9)
    stream = flow.compile(plan=CHAIN).astream(ask(), stream_mode="updates")
    await anext(stream)
    await stream.aclose()
    assert held(flow) == 0


async def test_nothing_is_held_while_a_person_looks_at_the_plan(face: Face, edge, cloud):
    flow = flow_of(edge, cloud, 2)
    graph = flow.compile(InMemorySaver(), plan=WIDE, interrupt_after=["dispatch"])
    await face.invoke(graph, ask(), thread())
    assert held(flow) == 0
    out = await face.invoke(graph, None, thread())
    assert out["results"]["end"]["tier"] == "cloud"
    assert_at_rest(flow)


@pytest.mark.parametrize("steps", [1, 2])
async def test_nothing_is_held_when_the_run_may_not_take_another_step(
    face: Face, edge, cloud, steps: int
):
    flow = flow_of(edge, cloud, 9, router=EdgeFor("3"))
    with pytest.raises(GraphRecursionError):
        await face.invoke(flow.compile(plan=CHAIN), ask(), {"recursion_limit": steps})
    assert held(flow) == 0


async def test_nothing_is_held_any_more_when_the_last_subtask_has_ended(face: Face, edge, cloud):
    flow = flow_of(edge, cloud, 9, router=EdgeFor("3"))
    graph = flow.compile(InMemorySaver(), plan=CHAIN, interrupt_before=["answer"])
    out = await face.invoke(graph, ask(), thread())
    assert out["results"]["3"]["tier"] == "edge"
    assert held(flow) == 0
