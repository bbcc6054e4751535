"""A person approves cloud calls: asked exactly once for each, whatever else goes on."""

from __future__ import annotations

import sqlite3
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
    planning_worker,
    thread,
    worker,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

from langchain_hybridflow import Budget, HybridFlowGraph, Limits
from langchain_hybridflow.routing import AlwaysCloud, RouteDecision, RouteRequest
from langchain_hybridflow.testing import ManualClock


class CloudFor:
    """Sends the subtasks named to the cloud."""

    def __init__(self, *subtasks: str) -> None:
        self.subtasks = subtasks

    def route(self, request: RouteRequest) -> RouteDecision:
        tier = "cloud" if request.subtask_id in self.subtasks else "edge"
        return RouteDecision(tier=tier, reason="by name", router="test")


def approving_flow(edge: Any, cloud: Any, *to_the_cloud: str, **fields: Any) -> HybridFlowGraph:
    return make_flow(
        edge,
        cloud,
        router=CloudFor(*to_the_cloud),
        approve_cloud=True,
        budget=Budget(max_cloud_calls=20),
        **fields,
    )


@pytest.fixture
def edge():
    return worker({n: f"edge {n}" for n in "1234"})


@pytest.fixture
def cloud():
    return worker({n: f"cloud {n}" for n in "1234"}, model_name="cloud")


def questions(graph: Any) -> dict[str, str]:
    """The interrupts that wait, by the subtask they are about."""
    return {one.value["subtask_id"]: one.id for one in graph.get_state(thread()).interrupts}


async def test_approved_call_goes_to_the_cloud(face: Face, edge, cloud):
    flow = approving_flow(edge, cloud, "2")
    graph = flow.compile(InMemorySaver(), plan=DIAMOND)
    out = await face.invoke(graph, ask(), thread())
    assert [one.value["subtask_id"] for one in out["__interrupt__"]] == ["2"]
    assert asked(cloud) == []
    out = await face.invoke(graph, Command(resume={"approve": True}), thread())
    assert out["results"]["2"]["answer"] == "cloud 2"
    assert asked(cloud) == ["2"]
    assert_at_rest(flow)


async def test_declined_call_goes_to_the_edge(face: Face, edge, cloud):
    graph = approving_flow(edge, cloud, "2").compile(InMemorySaver(), plan=DIAMOND)
    await face.invoke(graph, ask(), thread())
    out = await face.invoke(graph, Command(resume={"approve": False}), thread())
    assert out["results"]["2"]["answer"] == "edge 2"
    assert "not approved" in out["results"]["2"]["attempts"][0]["error"]
    assert asked(cloud) == []


@pytest.mark.parametrize("word", ["approve", "yes", "cloud", True])
async def test_approval_is_understood_in_several_words(face: Face, edge, cloud, word: Any):
    graph = approving_flow(edge, cloud, "2").compile(InMemorySaver(), plan=DIAMOND)
    await face.invoke(graph, ask(), thread())
    await face.invoke(graph, Command(resume=word), thread())
    assert asked(cloud) == ["2"]


@pytest.mark.parametrize("word", ["no", "edge", "maybe", 0, 1, "True", {}, {"approve": "no"}])
async def test_whatever_is_not_an_approval_declines(edge, cloud, word: Any):
    graph = approving_flow(edge, cloud, "2").compile(InMemorySaver(), plan=DIAMOND)
    await graph.ainvoke(ask(), thread())
    await graph.ainvoke(Command(resume=word), thread())
    assert asked(cloud) == []


async def test_siblings_finish_while_a_person_is_asked(face: Face, edge, cloud):
    graph = approving_flow(edge, cloud, "2").compile(InMemorySaver(), plan=DIAMOND)
    out = await face.invoke(graph, ask(), thread())
    assert sorted(asked(edge)) == ["1", "3"]
    assert [one.value["subtask_id"] for one in out["__interrupt__"]] == ["2"]


async def test_interrupt_says_what_is_to_be_approved(edge, cloud):
    graph = approving_flow(edge, cloud, "2").compile(InMemorySaver(), plan=DIAMOND)
    out = await graph.ainvoke(ask(), thread())
    value = out["__interrupt__"][0].value
    assert value == {
        "type": "approve_cloud",
        "subtask_id": "2",
        "task": "Part 2?",
        "model": "cloud",
        "reason": "by name",
        "expected_cost_usd": value["expected_cost_usd"],
        "resume_with": {"approve": True},
    }


async def test_parallel_interrupts_are_answered_by_id_together(face: Face, edge, cloud):
    graph = approving_flow(edge, cloud, "2", "3").compile(InMemorySaver(), plan=DIAMOND)
    await face.invoke(graph, ask(), thread())
    ids = questions(graph)
    assert sorted(ids) == ["2", "3"]
    answers = {ids["2"]: {"approve": True}, ids["3"]: {"approve": False}}
    out = await face.invoke(graph, Command(resume=answers), thread())
    assert out["results"]["2"]["answer"] == "cloud 2"
    assert out["results"]["3"]["answer"] == "edge 3"
    assert sorted(asked(edge, cloud)) == ["1", "2", "3", "4"]


async def test_parallel_interrupts_are_answered_by_id_one_by_one(face: Face, edge, cloud):
    flow = approving_flow(edge, cloud, "2", "3")
    graph = flow.compile(InMemorySaver(), plan=DIAMOND)
    await face.invoke(graph, ask(), thread())
    ids = questions(graph)
    await face.invoke(graph, Command(resume={ids["2"]: "yes"}), thread())
    assert questions(graph) == {"3": ids["3"]}
    assert asked(cloud) == ["2"]
    out = await face.invoke(graph, Command(resume={ids["3"]: "yes"}), thread())
    assert out["answer"] == "edge 4"
    assert sorted(asked(edge, cloud)) == ["1", "2", "3", "4"]
    assert_at_rest(flow)


@pytest.mark.parametrize("kind", ["compiled", "planned"])
async def test_every_subtask_in_the_cloud_is_asked_about_once(face: Face, kind: str, cloud):
    flow = make_flow(
        planning_worker(DIAMOND), cloud, router=AlwaysCloud(), approve_cloud=True, planner="always"
    )
    graph = flow.compile(InMemorySaver(), plan=DIAMOND if kind == "compiled" else None)
    out = await face.invoke(graph, ask(), thread())
    seen: dict[str, str] = {}
    for _ in range(10):
        waiting = questions(graph)
        if not waiting:
            break
        assert not seen.keys() & waiting.keys()
        seen |= waiting
        answers = {key: {"approve": True} for key in waiting.values()}
        out = await face.invoke(graph, Command(resume=answers), thread())
    assert out["answer"] == "cloud 4"
    assert sorted(seen) == ["1", "2", "3", "4"]
    assert sorted(asked(cloud)) == ["1", "2", "3", "4"]
    assert_at_rest(flow)


async def test_fallback_from_the_edge_is_approved_first(face: Face, cloud):
    edge = worker({"2": ConnectionRefusedError("nobody is there")})
    graph = approving_flow(edge, cloud).compile(InMemorySaver(), plan=CHAIN)
    out = await face.invoke(graph, ask(), thread())
    assert [one.value["subtask_id"] for one in out["__interrupt__"]] == ["2"]
    out = await face.invoke(graph, Command(resume="yes"), thread())
    assert out["results"]["2"]["answer"] == "cloud 2"
    assert [attempt["status"] for attempt in out["results"]["2"]["attempts"]] == ["failed", "ok"]
    assert asked(edge).count("2") == 1  # the failed call was not made again at the resume


async def test_declined_fallback_fails_the_subtask_and_not_the_run(face: Face, cloud):
    edge = worker({"2": ConnectionRefusedError("nobody is there")})
    graph = approving_flow(edge, cloud).compile(InMemorySaver(), plan=CHAIN)
    await face.invoke(graph, ask(), thread())
    out = await face.invoke(graph, Command(resume="no"), thread())
    assert out["results"]["2"]["status"] == "failed"
    assert out["results"]["3"]["status"] == "skipped"
    assert asked(cloud) == []


async def test_question_is_asked_again_by_nobody_who_reads_the_state(face: Face, edge, cloud):
    graph = approving_flow(edge, cloud, "2").compile(InMemorySaver(), plan=DIAMOND)
    await face.invoke(graph, ask(), thread())
    before = questions(graph)
    await face.invoke(graph, None, thread())  # going on without an answer changes nothing
    assert questions(graph) == before
    assert sorted(asked(edge, cloud)) == ["1", "3"]


async def test_other_flow_on_the_same_file_goes_on(face: Face, tmp_path, edge, cloud):
    """As after a restart: no wave, no promise, only what was written down."""
    if face.name == "async":
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "a.db")) as saver:
            await _ask_here_answer_there(face, saver, edge, cloud)
    else:
        connection = sqlite3.connect(tmp_path / "s.db", check_same_thread=False)
        await _ask_here_answer_there(face, SqliteSaver(connection), edge, cloud)
        connection.close()


async def _ask_here_answer_there(face: Face, saver: Any, edge: Any, cloud: Any) -> None:
    here = approving_flow(edge, cloud, "2").compile(saver, plan=DIAMOND)
    there = approving_flow(edge, cloud, "2").compile(saver, plan=DIAMOND)
    await face.invoke(here, ask(), thread())
    out = await face.invoke(there, Command(resume="yes"), thread())
    assert out["results"]["2"]["answer"] == "cloud 2"
    assert sorted(asked(edge, cloud)) == ["1", "2", "3", "4"]


async def test_second_question_replaces_one_that_waits_for_a_person(face: Face, edge, cloud):
    graph = approving_flow(edge, cloud, "2").compile(InMemorySaver(), plan=DIAMOND)
    await face.invoke(graph, ask("First?"), thread())
    await face.invoke(graph, ask("Second?"), thread())
    assert list(questions(graph)) == ["2"]
    out = await face.invoke(graph, Command(resume="yes"), thread())
    assert out["answer"] == "edge 4"
    assert "Second?" in cloud.calls[-1][-1].text
    assert len(cloud.calls) == 1


async def test_limits_of_a_run_hold_over_its_interrupts(face: Face, edge, cloud):
    flow = make_flow(
        edge,
        cloud,
        router=AlwaysCloud(),
        approve_cloud=True,
        budget=Budget(per_run=Limits(cloud_calls=2)),
    )
    graph = flow.compile(InMemorySaver(), plan=DIAMOND)
    out = await face.invoke(graph, ask(), thread())
    while "__interrupt__" in out:
        answers = {one.id: "yes" for one in out["__interrupt__"]}
        out = await face.invoke(graph, Command(resume=answers), thread())
    assert len(cloud.calls) == 2
    assert out["report"]["complete"]
    assert_at_rest(flow)


async def test_time_that_a_person_takes_does_not_count_against_the_deadline(
    face: Face, edge: Any, cloud: Any
):
    clock = ManualClock()
    budget = Budget(max_cloud_calls=20, deadline_s=10, clock=clock)
    flow = make_flow(edge, cloud, router=CloudFor("2"), approve_cloud=True, budget=budget)
    graph = flow.compile(InMemorySaver(), plan=DIAMOND)
    await face.invoke(graph, ask(), thread())
    clock.advance(3_600)
    out = await face.invoke(graph, Command(resume={"approve": True}), thread())
    assert out["report"]["complete"]
    assert out["results"]["2"]["tier"] == "cloud"
