"""Whom a run is for, and a store that does not answer: both before any model is asked."""

from __future__ import annotations

from typing import Any

import pytest
from flowkit import CHAIN, Face, ask, asked, make_flow, planning_worker, thread, worker
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_hybridflow import Budget, HybridFlowGraph, Limits
from langchain_hybridflow.budget import Scope
from langchain_hybridflow.errors import ConfigurationError, LedgerUnavailable
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import OutageLedger


def flow_for_users(calls: int, edge: Any = None, **fields: Any) -> HybridFlowGraph:
    budget = Budget(scopes=[Scope("user", Limits(cloud_calls=calls))])
    cloud = worker(model_name="cloud")
    return make_flow(edge or worker(), cloud, router=AlwaysCloud(), budget=budget, **fields)


def spent_by(flow: HybridFlowGraph, user: str) -> int:
    budget = flow.model.budget
    values = budget.scope_values({"configurable": {"user_id": user}})
    spent: int = budget.snapshot(values)["scopes"][0]["cloud_calls"]["spent"]
    return spent


def user(name: object, **fields: Any) -> dict[str, Any]:
    return {"configurable": {"user_id": name, **fields}}


@pytest.mark.parametrize("plan", [CHAIN, None], ids=["compiled", "planned"])
async def test_run_is_counted_for_its_user(face: Face, plan):
    flow = flow_for_users(2, planning_worker(CHAIN), planner="always")
    out = await face.invoke(flow.compile(plan=plan), ask(), user("ada"))
    assert spent_by(flow, "ada") == 2
    assert out["report"]["totals"]["degraded"]
    assert "user" in out["results"]["3"]["attempts"][0]["error"]
    await face.invoke(flow.compile(plan=plan), ask(), user("bob"))
    assert spent_by(flow, "bob") == 2


async def test_run_is_counted_for_the_user_of_the_runtime_context(face: Face):
    flow = flow_for_users(9)
    await face.invoke(flow.compile(plan=CHAIN), ask(), None, context={"user_id": "ada"})
    assert spent_by(flow, "ada") == 3


@pytest.mark.parametrize("config", [None, user(""), user("a\x07da"), user("x" * 10_240)])
async def test_run_for_nobody_asks_no_model(face: Face, config):
    edge = planning_worker(CHAIN)
    flow = flow_for_users(9, edge, planner="always")
    with pytest.raises(ConfigurationError):
        await face.invoke(flow.compile(), {**ask(), "user_id": "bob"}, config)
    assert edge.calls == []
    assert len(flow._waves) == len(flow._waves._runs) == 0


async def test_resumed_run_is_counted_for_the_same_user(face: Face):
    flow = flow_for_users(9, approve_cloud=True)
    graph = flow.compile(InMemorySaver(), plan=CHAIN)
    config = user("ada", **thread()["configurable"])
    out = await face.invoke(graph, ask(), config)
    while "__interrupt__" in out:
        out = await face.invoke(graph, Command(resume="yes"), config)
    assert spent_by(flow, "ada") == 3


async def test_no_model_is_asked_when_the_store_does_not_answer(face: Face):
    ledger = OutageLedger()
    ledger.state = "down"
    edge = planning_worker(CHAIN)
    flow = make_flow(edge, budget=Budget(max_cloud_calls=1, ledger=ledger), planner="always")
    with pytest.raises(LedgerUnavailable, match="outage"):
        await face.invoke(flow.compile(), ask())
    assert edge.calls == []
    assert len(flow._waves) == len(flow._waves._runs) == 0


async def test_run_goes_on_where_it_stopped_when_the_store_is_back(face: Face):
    ledger = OutageLedger()

    def switch_off(_: object) -> str:
        ledger.state = "down"
        return "answer 1"

    edge = worker({"1": switch_off})
    flow = make_flow(edge, budget=Budget(max_cloud_calls=1, ledger=ledger))
    graph = flow.compile(InMemorySaver(), plan=CHAIN)
    with pytest.raises(LedgerUnavailable):
        await face.invoke(graph, ask(), thread())
    ledger.state = "up"
    out = await face.invoke(graph, None, thread())
    assert out["report"]["complete"]
    assert asked(edge) == ["1", "2", "3"]


async def test_run_goes_on_without_the_store_when_it_may(face: Face):
    ledger = OutageLedger()
    budget = Budget(
        max_cloud_calls=9,
        ledger=ledger,
        on_store_failure="open",
        fail_open_limit=Limits(cloud_calls=2),
    )
    ledger.state = "down"
    cloud = worker(model_name="cloud")
    flow = make_flow(worker(), cloud, router=AlwaysCloud(), budget=budget)
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert asked(cloud) == ["1", "2"]
    assert out["report"]["complete"]
    assert budget.snapshot()["store"]["unbooked"]["cloud_calls"] == 2
