"""What is kept local in a plan stays local, and so does whatever builds on it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from flowkit import (
    CHAIN,
    DIAMOND,
    Face,
    ask,
    asked,
    assert_at_rest,
    make_flow,
    plan_of,
    planning_worker,
    thread,
    worker,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_hybridflow import Budget, Plan
from langchain_hybridflow.errors import SubtaskError
from langchain_hybridflow.plan import plan_to_xml
from langchain_hybridflow.planner import ChatPlanner
from langchain_hybridflow.routing import AlwaysCloud, KeepLocal, RouteDecision, RouteRequest

SECRET = "jane@example.org"
WIDE = plan_of({"1": "", "2": "1", "3": "1", "4": "2", "5": "3 4"})
POLICY = {"policy": KeepLocal()}


class EdgeFor:
    def __init__(self, *subtasks: str) -> None:
        self.subtasks = subtasks

    def route(self, request: RouteRequest) -> RouteDecision:
        tier = "edge" if request.subtask_id in self.subtasks else "cloud"
        return RouteDecision(tier=tier, reason="by name", router="test")


def flow_of(
    edge: Any, cloud: Any, *, router: Any = None, model: Any = POLICY, **fields: Any
) -> Any:
    return make_flow(edge, cloud, router=router or AlwaysCloud(), model=model, **fields)


def sent(cloud: Any) -> str:
    return "\n".join(message.text for call in cloud.calls for message in call)


@pytest.fixture
def cloud() -> Any:
    return worker({n: f"cloud {n}" for n in "12345"}, model_name="cloud")


async def test_sensitive_question_keeps_every_subtask_local(face: Face, cloud: Any) -> None:
    edge = planning_worker(DIAMOND)
    flow = flow_of(edge, cloud, planner="always")
    out = await face.invoke(flow.compile(), ask(f"How long until {SECRET} answers?"))
    assert not cloud.calls
    assert all(record["kept_local"] for record in out["results"].values())
    assert out["report"]["complete"]
    assert out["report"]["kept_local"]
    assert_at_rest(flow)


async def test_taint_follows_the_plan_and_nothing_else(face: Face, cloud: Any) -> None:
    # Subtask 2 answers with a secret; 4 repeats nothing of it, and 5 builds on 4 only through it.
    edge = worker({"2": f"It is {SECRET}."})
    flow = flow_of(edge, cloud, router=EdgeFor("2"))
    out = await face.invoke(flow.compile(plan=WIDE), ask())
    kept = {key for key, record in out["results"].items() if record["kept_local"]}
    assert kept == {"4", "5"}
    assert sorted(asked(cloud)) == ["1", "3"]
    assert "builds on" in out["results"]["5"]["decision"]["reason"]
    assert SECRET not in sent(cloud)


async def test_kept_subtask_whose_edge_fails_does_not_go_to_the_cloud(
    face: Face, cloud: Any
) -> None:
    edge = worker({"2": f"It is {SECRET}.", "4": OSError("down")})
    flow = flow_of(edge, cloud, router=EdgeFor("2"))
    out = await face.invoke(flow.compile(plan=WIDE), ask())
    assert (out["results"]["4"]["status"], out["results"]["5"]["status"]) == ("failed", "skipped")
    assert sorted(asked(cloud)) == ["1", "3"]
    assert_at_rest(flow)


async def test_exhausted_budget_changes_nothing_about_it(face: Face, cloud: Any) -> None:
    flow = flow_of(
        worker(),
        cloud,
        model={"policy": lambda request: ["cloud"]},
        budget=Budget(max_cloud_calls=1),
    )
    edge = flow.model.edge
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert not edge.calls
    assert [out["results"][key]["status"] for key in "123"] == ["ok", "failed", "skipped"]


async def test_subtask_that_nobody_may_answer_fails_alone(face: Face, cloud: Any) -> None:
    def policy(request: RouteRequest) -> list[str]:
        return [] if request.subtask_id == "2" else ["edge", "cloud"]

    flow = flow_of(worker(), cloud, model={"policy": policy})
    out = await face.invoke(flow.compile(plan=DIAMOND), ask())
    statuses = [out["results"][key]["status"] for key in "1234"]
    assert statuses == ["ok", "failed", "ok", "skipped"]
    assert "PolicyViolation" in out["results"]["2"]["error"]
    assert_at_rest(flow)


async def test_subtask_that_nobody_may_answer_ends_the_run_when_told_to(
    face: Face, cloud: Any
) -> None:
    flow = flow_of(worker(), cloud, model={"policy": lambda _: []}, on_subtask_error="raise")
    with pytest.raises(SubtaskError, match="PolicyViolation"):
        await face.invoke(flow.compile(plan=DIAMOND), ask())


async def test_policy_is_asked_again_after_an_approval(face: Face, cloud: Any) -> None:
    saver, allowed = InMemorySaver(), ["edge", "cloud"]
    edge = worker()

    def flow() -> Any:
        return flow_of(
            edge,
            cloud,
            model={"policy": lambda _: list(allowed)},
            approve_cloud=True,
            budget=Budget(max_cloud_calls=9),
        ).compile(saver, plan=plan_of({"only": ""}))

    await face.invoke(flow(), ask(), thread())
    allowed.remove("cloud")
    out = await face.invoke(flow(), Command(resume={"approve": True}), thread())
    assert (cloud.calls, asked(edge)) == ([], ["only"])
    assert out["results"]["only"]["kept_local"]


async def test_taint_is_kept_by_a_resume_without_the_policy(face: Face, cloud: Any) -> None:
    saver = InMemorySaver()
    edge = worker({"2": f"It is {SECRET}."})
    first = flow_of(edge, cloud, router=EdgeFor("2")).compile(
        saver, plan=WIDE, interrupt_after=["analyze_4"]
    )
    await face.invoke(first, ask(), thread())
    state = first.get_state(thread()).values
    assert state["results"]["4"]["kept_local"]
    forgotten = {key: state["results"][key] for key in "1234"}
    again = flow_of(edge, cloud, router=EdgeFor("2"), model={}).compile(saver, plan=WIDE)
    plan = copy.deepcopy(state["plan"])
    plan["subtasks"][-1]["task"] = "Another last part?"
    config = again.update_state(thread(), {"plan": plan, "results": forgotten}, as_node="answer")
    out = await face.invoke(again, None, config)
    assert sorted(asked(cloud)) == ["1", "3"]
    assert out["results"]["5"]["kept_local"]


async def test_edited_task_is_read_like_any_other(face: Face, cloud: Any) -> None:
    edge = planning_worker(DIAMOND)
    graph = flow_of(edge, cloud, planner="always", stream_plan=False).compile(InMemorySaver())
    await face.invoke(graph, ask(), thread())
    before = len(cloud.calls)
    plan = DIAMOND.model_dump(mode="json")
    plan["subtasks"][1]["task"] = f"Ask {SECRET}?"
    config = graph.update_state(thread(), {"plan": plan}, as_node="plan")
    out = await face.invoke(graph, None, config)
    assert len(cloud.calls) == before
    assert {key for key, one in out["results"].items() if one["kept_local"]} == {"2", "4"}


@pytest.mark.parametrize("streamed", [True, False])
async def test_planner_in_the_cloud_does_not_see_a_sensitive_question(
    face: Face, cloud: Any, streamed: bool
) -> None:
    stranger = worker({"plan": plan_to_xml(CHAIN)}, model_name="stranger")
    flow = flow_of(
        planning_worker(DIAMOND),
        cloud,
        planner=ChatPlanner(model=stranger, skip_trivial=False),
        stream_plan=streamed,
    )
    out = await face.invoke(flow.compile(), ask(f"Who is {SECRET}?"))
    assert (stranger.calls, cloud.calls) == ([], [])
    assert len(out["plan"]["subtasks"]) == len(DIAMOND)
    out = await face.invoke(flow.compile(), ask())
    assert len(stranger.calls) == 1
    assert len(out["plan"]["subtasks"]) == len(CHAIN)


class Stranger:
    def __init__(self, **fields: Any) -> None:
        self.questions: list[str] = []
        vars(self).update(fields)

    def plan(self, question: str) -> Plan:
        self.questions.append(question)
        return CHAIN


@pytest.mark.parametrize(("fields", "asked_"), [({}, False), ({"tier": "edge"}, True)])
async def test_planner_of_unknown_place_does_not_see_a_sensitive_question(
    face: Face, cloud: Any, fields: Any, asked_: bool
) -> None:
    planner = Stranger(**fields)
    flow = flow_of(planning_worker(DIAMOND), cloud, planner=planner)
    out = await face.invoke(flow.compile(), ask(f"How many apples has {SECRET} in total, and why?"))
    assert bool(planner.questions) is asked_
    assert not cloud.calls
    assert out["report"]["complete"]


async def test_next_question_of_a_kept_conversation_stays_local(face: Face, cloud: Any) -> None:
    edge = planning_worker(DIAMOND)
    graph = flow_of(edge, cloud, planner="always").compile()
    first = await face.invoke(graph, ask(SECRET))
    answer = first["messages"][-1]
    messages = [HumanMessage("x"), answer, HumanMessage("And now?")]
    out = await face.invoke(graph, {"messages": messages})
    assert not cloud.calls
    assert out["report"]["kept_local"]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_no_descendant_of_a_kept_subtask_goes_to_the_cloud(data: st.DataObject) -> None:
    from flowkit import plans

    plan = data.draw(plans())
    kept = data.draw(st.sampled_from([subtask.id for subtask in plan.subtasks]))
    cloud = worker(model_name="cloud")

    def policy(request: RouteRequest) -> list[str]:
        return ["edge"] if request.subtask_id == kept else ["edge", "cloud"]

    flow = flow_of(worker(), cloud, model={"policy": policy})
    out = flow.compile(plan=plan).invoke(ask())
    below = {one.id for one in plan.subtasks if kept in plan.ancestors(one.id)} | {kept}
    assert {key for key, record in out["results"].items() if record["kept_local"]} == below
    assert set(asked(cloud)) == {one.id for one in plan.subtasks} - below
