"""A run asks for more than its budget once, however many of its subtasks do not fit."""

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
    wide_plan,
    worker,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

from langchain_hybridflow import Budget, HybridFlowGraph, Limits
from langchain_hybridflow.budget import Amounts
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.verify import JudgeVerifier

WIDE = wide_plan(5)
"""Seven subtasks; five of them at the same time."""


def asking_flow(edge: Any, cloud: Any, calls: int = 1, **fields: Any) -> HybridFlowGraph:
    budget = fields.pop("budget", None) or Budget(max_cloud_calls=calls, on_exhausted="ask")
    return make_flow(edge, cloud, router=AlwaysCloud(), budget=budget, **fields)


@pytest.fixture
def edge():
    return worker()


@pytest.fixture
def cloud():
    return worker(model_name="cloud")


def questions(out: dict[str, Any]) -> list[dict[str, Any]]:
    return [one.value for one in out.get("__interrupt__", ())]


async def test_one_question_is_asked_for_a_whole_wave(face: Face, edge, cloud):
    flow = asking_flow(edge, cloud)
    graph = flow.compile(InMemorySaver(), plan=WIDE)
    out = await face.invoke(graph, ask(), thread())
    assert len(questions(out)) == 1
    assert (len(cloud.calls), len(edge.calls)) == (1, 0)
    out = await face.invoke(graph, Command(resume={"approve": True}), thread())
    assert questions(out) == []
    assert out["report"]["complete"]
    assert sorted(asked(cloud)) == sorted(WIDE.order)
    assert not out["report"]["degraded"]
    assert_at_rest(flow)


async def test_question_has_the_numbers(face: Face, edge, cloud):
    graph = asking_flow(edge, cloud).compile(InMemorySaver(), plan=WIDE)
    (question,) = questions(await face.invoke(graph, ask(), thread()))
    numbers = {"dimension": "cloud_calls", "requested": 1, "remaining": 0, "limit": 1}
    assert {name: question[name] for name in numbers} == numbers
    assert question["type"] == "budget_exhausted"
    assert question["model"] == "cloud"
    assert question["task"] == f"Part {question['subtask_id']}?"
    assert question["approval_costs_up_to"]["cloud_calls"] == 7
    assert question["resume_with"] == {"approve": True}


async def test_what_was_approved_is_counted_beyond_the_limit_and_seen(face: Face, edge, cloud):
    flow = asking_flow(edge, cloud)
    graph = flow.compile(InMemorySaver(), plan=WIDE)
    await face.invoke(graph, ask(), thread())
    await face.invoke(graph, Command(resume="yes"), thread())
    state = flow.model.budget.snapshot()
    assert (state["cloud_calls"]["spent"], state["cloud_calls"]["limit"]) == (7, 1)
    assert state["allowance"]["cloud_calls"] == 6


async def test_edge_answers_the_rest_when_the_person_declines(face: Face, edge, cloud):
    flow = asking_flow(edge, cloud)
    graph = flow.compile(InMemorySaver(), plan=WIDE)
    await face.invoke(graph, ask(), thread())
    out = await face.invoke(graph, Command(resume={"approve": False}), thread())
    assert questions(out) == []
    assert (len(cloud.calls), len(edge.calls)) == (1, 6)
    assert (out["report"]["complete"], out["report"]["degraded"]) == (True, True)
    assert out["report"]["totals"]["degraded"] is True
    assert flow.model.budget.snapshot()["allowance"]["cloud_calls"] == 0
    assert_at_rest(flow)


async def test_next_run_is_asked_about_anew(face: Face, edge, cloud):
    graph = asking_flow(edge, cloud, 0).compile(InMemorySaver(), plan=CHAIN)
    for verdict in ("yes", "no", "yes"):
        assert len(questions(await face.invoke(graph, ask(), thread()))) == 1
        out = await face.invoke(graph, Command(resume=verdict), thread())
        assert out["report"]["degraded"] == (verdict == "no")
    assert (len(cloud.calls), len(edge.calls)) == (6, 3)


async def test_run_that_was_allowed_more_is_not_asked_when_that_is_used_up(face: Face, edge, cloud):
    """More calls than subtasks were reckoned with: the edge answers, and nobody is asked again."""
    cloud = worker({"2": ConnectionRefusedError("nobody is there")}, model_name="cloud")
    budget = Budget(max_cloud_tokens=0, on_exhausted="ask")
    flow = asking_flow(edge, cloud, budget=budget)
    graph = flow.compile(InMemorySaver(), plan=CHAIN)
    out = await face.invoke(graph, ask(), thread())
    assert len(questions(out)) == 1
    out = await face.invoke(graph, Command(resume="yes"), thread())
    assert questions(out) == []
    assert out["report"]["complete"]


async def test_subtasks_that_fit_go_on_while_a_person_is_asked(face: Face, cloud):
    edge = worker()
    flow = asking_flow(edge, cloud, 1)
    graph = flow.compile(InMemorySaver(), plan=DIAMOND)
    out = await face.invoke(graph, ask(), thread())
    assert asked(cloud) == ["1"]
    assert len(questions(out)) == 1
    state = graph.get_state(thread()).values
    assert state["results"]["1"]["answer"] == "answer 1"


async def test_planned_run_asks_once_too(face: Face, cloud):
    plan = wide_plan(4)
    flow = asking_flow(planning_worker(plan), cloud, planner="always")
    graph = flow.compile(InMemorySaver())
    out = await face.invoke(graph, ask(), thread())
    assert len(questions(out)) == 1
    out = await face.invoke(graph, Command(resume="yes"), thread())
    assert questions(out) == []
    assert sorted(asked(cloud)) == sorted(plan.order)
    assert_at_rest(flow)


async def test_question_stands_when_the_run_goes_on_without_an_answer(face: Face, edge, cloud):
    graph = asking_flow(edge, cloud).compile(InMemorySaver(), plan=WIDE)
    await face.invoke(graph, ask(), thread())
    before = [one.id for one in graph.get_state(thread()).interrupts]
    await face.invoke(graph, None, thread())
    assert [one.id for one in graph.get_state(thread()).interrupts] == before
    await face.invoke(graph, Command(resume="yes"), thread())
    assert sorted(asked(cloud)) == sorted(WIDE.order)


async def test_question_is_asked_once_when_another_process_goes_on(face: Face, tmp_path):
    """As after a restart: no wave, no promise, only what was written down."""
    if face.name == "async":
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "a.db")) as saver:
            await _ask_here_answer_there(face, saver)
    else:
        connection = sqlite3.connect(tmp_path / "s.db", check_same_thread=False)
        await _ask_here_answer_there(face, SqliteSaver(connection))
        connection.close()


async def _ask_here_answer_there(face: Face, saver: Any) -> None:
    ledger = Budget().ledger
    clouds = [worker(model_name="cloud") for _ in range(3)]
    graphs = [
        asking_flow(
            worker(), cloud, budget=Budget(max_cloud_calls=1, on_exhausted="ask", ledger=ledger)
        ).compile(saver, plan=WIDE)
        for cloud in clouds
    ]
    out = await face.invoke(graphs[0], ask(), thread())
    (question,) = questions(out)
    out = await face.invoke(graphs[1], None, thread())  # it stands there, too
    assert [one["subtask_id"] for one in questions(out)] == [question["subtask_id"]]
    out = await face.invoke(graphs[2], Command(resume="yes"), thread())
    assert questions(out) == []
    assert sorted(asked(*clouds)) == sorted(WIDE.order)
    assert not out["report"]["degraded"]


async def test_approved_cloud_call_can_be_one_that_does_not_fit(face: Face, edge, cloud):
    flow = asking_flow(edge, cloud, 0, approve_cloud=True)
    graph = flow.compile(InMemorySaver(), plan=CHAIN)
    out = await face.invoke(graph, ask(), thread())
    kinds = []
    while questions(out):
        (question,) = questions(out)
        kinds.append(question["type"])
        out = await face.invoke(graph, Command(resume="yes"), thread())
    assert kinds == ["approve_cloud", "budget_exhausted", "approve_cloud", "approve_cloud"]
    assert asked(cloud) == ["1", "2", "3"]


async def test_run_that_could_not_ask_does_not_start(face: Face, edge, cloud):
    graph = asking_flow(edge, cloud, 9).compile(plan=CHAIN)
    with pytest.raises(ConfigurationError, match="checkpointer"):
        await face.invoke(graph, ask(), thread())
    assert edge.calls == cloud.calls == []


async def test_limits_of_the_run_are_lifted_for_the_run_that_was_approved_only(
    face: Face, edge, cloud
):
    budget = Budget(per_run=Limits(cloud_calls=1), on_exhausted="ask")
    graph = asking_flow(edge, cloud, budget=budget).compile(InMemorySaver(), plan=CHAIN)
    (question,) = questions(await face.invoke(graph, ask(), thread()))
    assert question["scope"] == "run"
    out = await face.invoke(graph, Command(resume="yes"), thread())
    assert asked(cloud) == ["1", "2", "3"]
    assert out["report"]["complete"]
    assert len(questions(await face.invoke(graph, ask(), thread()))) == 1


async def test_cloud_planner_that_does_not_fit_asks_nobody(face: Face, edge, cloud):
    flow = asking_flow(edge, cloud, 0, planner=cloud)
    graph = flow.compile(InMemorySaver())
    out = await face.invoke(graph, ask(), thread())
    assert [one["subtask_id"] for one in questions(out)] == ["1"]
    assert graph.get_state(thread()).values["planning"]["source"] == "fallback"


async def test_answer_counts_even_if_there_is_enough_again_when_it_comes(face: Face, edge, cloud):
    """What was held for the last subtask goes back while a person is asked."""
    flow = asking_flow(edge, cloud, 1, reserve_final=True)
    graph = flow.compile(InMemorySaver(), plan=CHAIN)
    (question,) = questions(await face.invoke(graph, ask(), thread()))
    assert (question["subtask_id"], cloud.calls) == ("1", [])
    out = await face.invoke(graph, Command(resume="yes"), thread())
    assert questions(out) == []
    assert asked(cloud) == ["1", "2", "3"]
    assert_at_rest(flow)


async def test_what_is_approved_is_what_the_question_said(face: Face, edge, cloud):
    flow = asking_flow(edge, cloud, 0)
    graph = flow.compile(InMemorySaver(), plan=CHAIN)
    (question,) = questions(await face.invoke(graph, ask(), thread()))
    flow.model.budget.start_run().reserve("somebody else", Amounts(cloud_tokens=10**6))
    await face.invoke(graph, Command(resume="yes"), thread())
    approval = graph.get_state(thread()).values["approval"]
    assert approval["approved"]
    assert approval["allowance"]["lifts"] == ["budget"]
    costs = question["approval_costs_up_to"]
    assert approval["allowance"]["cloud_tokens"] == costs["cloud_tokens"]


async def test_verifier_that_does_not_fit_asks_like_anybody_else(face: Face, cloud):
    edge = worker()
    flow = make_flow(
        edge,
        cloud,
        budget=Budget(max_cloud_calls=0, on_exhausted="ask"),
        model={"verify": JudgeVerifier(model="cloud")},
        approve_cloud=True,
    )
    graph = flow.compile(InMemorySaver(), plan=CHAIN)
    kinds = []
    out = await face.invoke(graph, ask(), thread())
    while questions(out) and len(kinds) < 20:
        kinds += [one["type"] for one in questions(out)]
        out = await face.invoke(graph, Command(resume="yes"), thread())
    assert kinds.count("budget_exhausted") == 1
    assert kinds[:2] == ["approve_cloud", "budget_exhausted"]
    assert out["report"]["complete"]
    assert_at_rest(flow)
