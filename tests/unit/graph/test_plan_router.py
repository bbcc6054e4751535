"""A router that can do so decides on the whole plan when there is one, else one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langchain_hybridflow import Budget, HybridFlowGraph, RoutedChatModel
from langchain_hybridflow.errors import SubtaskError
from langchain_hybridflow.plan import Plan, Subtask
from langchain_hybridflow.routing import (
    TIERS,
    Prediction,
    RouteDecision,
    Router,
    RouteRequest,
    UtilityRouter,
)
from langchain_hybridflow.testing import ScriptedChatModel
from tests.unit.routing.predicting import Foretold

PLAN = Plan(
    subtasks=[
        Subtask(id="1", task="What is asked?", role="explain"),
        Subtask(id="2", task="What does Ann pay?", depends_on=["1"]),
        Subtask(id="3", task="What does Bob pay?", depends_on=["1"]),
        Subtask(id="4", task="Who pays more?", role="generate", depends_on=["2", "3"]),
    ]
)
GAINS = {"1": 0.1, "2": 0.1, "3": 0.3, "4": 0.2}
INPUT = {"messages": [("user", "Who pays more?")]}


class Noting(UtilityRouter):
    """Notes what it is asked."""

    def __init__(self, gains: Mapping[str, float] = GAINS) -> None:
        super().__init__(Foretold(gains))
        self.plans: list[dict[str, RouteRequest]] = []

    def route_plan(
        self, plan: Plan, requests: Mapping[str, RouteRequest]
    ) -> Mapping[str, RouteDecision]:
        self.plans.append(dict(requests))
        return super().route_plan(plan, requests)


def flow(router: Router, *, cloud_calls: int = 1, **fields: Any) -> HybridFlowGraph:
    options = {one: fields.pop(one) for one in ("planner", "stream_plan") if one in fields}
    settings: dict[str, Any] = {
        "edge": ScriptedChatModel(responses=["edge says so"] * 20, model_name="little"),
        "cloud": ScriptedChatModel(responses=["cloud says so"] * 20, model_name="big"),
        "router": router,
        "budget": Budget(max_cloud_calls=cloud_calls),
    }
    return HybridFlowGraph(RoutedChatModel(**(settings | fields)), **options)


def sent_to_cloud(out: Mapping[str, Any]) -> set[str]:
    return {one for one, record in out["results"].items() if record["tier"] == "cloud"}


class OwnPlanner:
    def plan(self, question: str) -> Plan:
        return PLAN


async def test_best_subtask_gets_the_only_call_when_the_plan_is_given() -> None:
    graph = flow(Noting()).compile(plan=PLAN)
    out = await graph.ainvoke(INPUT)
    assert sent_to_cloud(out) == {"3"}
    decision = out["results"]["3"]["decision"]
    assert decision["router"] == "utility_plan"
    assert "1 of 4 subtasks" in decision["reason"]


def test_best_subtask_gets_the_only_call_when_a_planner_planned() -> None:
    graph = flow(Noting(), planner=OwnPlanner()).compile()
    assert sent_to_cloud(graph.invoke(INPUT)) == {"3"}


def test_first_subtask_gets_the_only_call_when_decided_one_by_one() -> None:
    class OneByOne:
        def __init__(self) -> None:
            self.route = UtilityRouter(Foretold(GAINS)).route

    graph = flow(OneByOne()).compile(plan=PLAN)
    assert sent_to_cloud(graph.invoke(INPUT)) == {"1"}


def test_subtasks_are_decided_one_by_one_while_the_plan_streams() -> None:
    router = Noting()
    xml = (
        "<Plan><Step ID='1' Task='Explain: what is asked?'/>"
        "<Step ID='2' Task='Analyze: what does Ann pay?' Rely='1'/>"
        "<Step ID='3' Task='Generate: who pays more?' Rely='2'/></Plan>"
    )
    edge = ScriptedChatModel(responses=[xml, *["edge says so"] * 9], model_name="little")
    out = flow(router, edge=edge, planner="always").compile().invoke(INPUT)
    assert {one["decision"]["router"] for one in out["results"].values()} == {"utility"}
    assert router.plans == []


def test_router_sees_every_subtask_with_its_place_and_the_budget() -> None:
    router = Noting()
    flow(router, cloud_calls=3).compile(plan=PLAN).invoke(INPUT)
    (asked,) = router.plans
    assert set(asked) == set("1234")
    assert (asked["4"].depth, asked["4"].fan_in, asked["1"].fan_out) == (2, 2, 2)
    assert asked["4"].prompt_tokens > asked["1"].prompt_tokens + 2 * 128
    assert asked["1"].budget.cloud_calls.remaining == 3


def test_plan_is_decided_one_by_one_when_the_router_fails_on_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(UtilityRouter):
        def route_plan(self, plan: Plan, requests: object) -> Mapping[str, RouteDecision]:
            raise ValueError("no idea")

    out = flow(Broken(Foretold(GAINS))).compile(plan=PLAN).invoke(INPUT)
    assert out["results"]["1"]["decision"]["router"] == "utility"
    assert "Router Broken failed on a plan: ValueError" in caplog.text
    assert "no idea" not in caplog.text, "the text of an error may quote the prompt"


def test_policy_holds_for_what_was_decided_on_the_whole_plan() -> None:
    router = Noting()
    graph = flow(router, policy=lambda one: TIERS[: 1 + ("Bob" not in one.text)])
    assert sent_to_cloud(graph.compile(plan=PLAN).invoke(INPUT)) == {"1"}
    assert set(router.plans[0]) == {"1", "2"}  # 4 builds on what is kept local


def test_rest_of_a_plan_is_decided_anew_when_a_run_goes_on() -> None:
    router = Noting()
    edge = ScriptedChatModel(responses=["fine", ValueError("down"), *["fine"] * 9])
    model = flow(router, edge=edge, on_edge_error="raise").model
    graph = HybridFlowGraph(model, on_subtask_error="raise")
    compiled = graph.compile(plan=PLAN, checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    with pytest.raises(SubtaskError, match="down"):
        compiled.invoke(INPUT, config)
    out = compiled.invoke(None, config)
    assert sent_to_cloud(out) == {"3"}
    first, second = router.plans
    assert set(first) == set("1234")
    assert "1" not in second


def test_decisions_of_the_plan_are_made_from_one_look_at_the_predictor() -> None:
    class Counting(Foretold):
        looks = 0

        def predict(self, requests: Sequence[RouteRequest]) -> Sequence[Prediction]:
            type(self).looks += 1
            return super().predict(requests)

    flow(UtilityRouter(Counting(GAINS))).compile(plan=PLAN).invoke(INPUT)
    assert Counting.looks == 1
