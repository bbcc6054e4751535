"""Edited plans and forks: what is unchanged is not paid again, what is changed runs."""

from __future__ import annotations

import asyncio
import copy
from itertools import count
from typing import Any

import pytest
from flowkit import (
    DIAMOND,
    PATIENCE_S,
    Face,
    Gate,
    ask,
    asked,
    make_flow,
    plan_of,
    planning_worker,
    results_in,
    thread,
    worker,
)
from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_hybridflow import Plan
from langchain_hybridflow.errors import PlanError
from langchain_hybridflow.plan import plan_to_xml
from langchain_hybridflow.testing import ScriptedChatModel


def edited(plan: Plan, **tasks: str) -> dict[str, Any]:
    """The plan as JSON, with other tasks for the subtasks `s<id>`."""
    fields = copy.deepcopy(plan.model_dump(mode="json"))
    for subtask in fields["subtasks"]:
        subtask["task"] = tasks.get(f"s{subtask['id']}", subtask["task"])
    return fields


def echo(messages: list[BaseMessage]) -> str:
    """An answer that depends on the task and the results shown."""
    return f"{messages[-1].text.rsplit('>', 2)[-2][1:12].strip()} from {results_in(messages)}"[:300]


@pytest.fixture
def edge():
    return planning_worker(DIAMOND, dict.fromkeys("1234", echo))


@pytest.mark.parametrize("as_node", ["plan", "dispatch", "answer"])
async def test_edited_subtask_and_those_below_it_run_again(face: Face, edge, as_node: str):
    graph = make_flow(edge, planner="always", stream_plan=False).compile(InMemorySaver())
    await face.invoke(graph, ask(), thread())
    before = len(edge.calls)
    update = {"plan": edited(DIAMOND, s2="Another part two?")}
    config = graph.update_state(thread(), update, as_node=as_node)
    out = await face.invoke(graph, None, config)
    assert sorted(asked(edge)[before:]) == ["2", "4"]
    assert "Another" in out["results"]["2"]["answer"]
    assert out["answer"] == out["results"]["4"]["answer"]


@pytest.mark.parametrize("as_node", ["dispatch", "answer"])
async def test_edited_subtask_of_a_compiled_plan_runs_again(face: Face, as_node: str):
    edge = worker(dict.fromkeys("1234", echo))
    graph = make_flow(edge).compile(InMemorySaver(), plan=DIAMOND)
    await face.invoke(graph, ask(), thread())
    update = {"plan": edited(DIAMOND, s3="Another part three?")}
    config = graph.update_state(thread(), update, as_node=as_node)
    await face.invoke(graph, None, config)
    assert sorted(asked(edge)[4:]) == ["3", "4"]


async def test_subtask_below_an_edited_one_is_not_paid_again_if_its_input_stays_the_same(
    face: Face,
):
    edge = worker()  # answers do not depend on the task
    graph = make_flow(edge).compile(InMemorySaver(), plan=DIAMOND)
    await face.invoke(graph, ask(), thread())
    update = {"plan": edited(DIAMOND, s2="Part two in other words?")}
    config = graph.update_state(thread(), update, as_node="dispatch")
    out = await face.invoke(graph, None, config)
    assert asked(edge)[4:] == ["2"]
    assert out["report"]["complete"]


async def test_plan_is_edited_before_it_runs(face: Face, edge):
    flow = make_flow(edge, planner="always", stream_plan=False)
    graph = flow.compile(InMemorySaver(), interrupt_after=["plan"])
    await face.invoke(graph, ask(), thread())
    assert asked(edge) == ["plan"]
    smaller = plan_of({"1": "", "2": "1"})
    graph.update_state(thread(), {"plan": smaller.model_dump(mode="json")})
    out = await face.invoke(graph, None, thread())
    assert sorted(out["results"]) == ["1", "2"]
    assert asked(edge) == ["plan", "1", "2"]


async def test_plan_that_is_not_edited_runs_as_it_is_after_the_stop(face: Face, edge):
    flow = make_flow(edge, planner="always", stream_plan=False)
    graph = flow.compile(InMemorySaver(), interrupt_after=["plan"])
    await face.invoke(graph, ask(), thread())
    out = await face.invoke(graph, None, thread())
    assert sorted(asked(edge)) == ["1", "2", "3", "4", "plan"]
    assert out["plan"] == DIAMOND.model_dump(mode="json")


async def test_edited_plan_may_have_other_subtasks(face: Face, edge):
    graph = make_flow(edge, planner="always", stream_plan=False).compile(InMemorySaver())
    await face.invoke(graph, ask(), thread())
    before = len(edge.calls)
    longer = plan_of({"1": "", "2": "1", "3": "1", "new": "1", "4": "2 3 new"})
    config = graph.update_state(thread(), {"plan": longer.model_dump(mode="json")}, as_node="plan")
    out = await face.invoke(graph, None, config)
    assert sorted(asked(edge)[before:]) == ["4", "new"]
    assert sorted(out["results"]) == ["1", "2", "3", "4", "new"]


async def test_results_of_subtasks_that_were_edited_away_are_gone(face: Face, edge):
    graph = make_flow(edge, planner="always", stream_plan=False).compile(InMemorySaver())
    await face.invoke(graph, ask(), thread())
    smaller = plan_of({"1": "", "2": "1", "4": "2"})
    config = graph.update_state(thread(), {"plan": smaller.model_dump(mode="json")}, as_node="plan")
    out = await face.invoke(graph, None, config)
    assert sorted(out["results"]) == ["1", "2", "4"]


async def test_unknown_subtask_in_a_compiled_plan_is_refused(face: Face):
    graph = make_flow().compile(InMemorySaver(), plan=DIAMOND)
    await face.invoke(graph, ask(), thread())
    strange = plan_of({"1": "", "stranger": "1", "4": "stranger"})
    with pytest.raises(PlanError, match="stranger"):
        graph.update_state(thread(), {"plan": strange.model_dump(mode="json")}, as_node="dispatch")


async def test_invalid_edited_plan_is_refused(face: Face, edge):
    graph = make_flow(edge, planner="always", stream_plan=False).compile(InMemorySaver())
    await face.invoke(graph, ask(), thread())
    broken = DIAMOND.model_dump(mode="json")
    broken["subtasks"][1]["depends_on"] = ["nobody"]
    with pytest.raises(PlanError, match="nobody"):
        await face.invoke(
            graph, None, graph.update_state(thread(), {"plan": broken}, as_node="plan")
        )


async def test_fork_from_before_the_work_does_it_anew(face: Face):
    edge = worker()
    graph = make_flow(edge).compile(InMemorySaver(), plan=DIAMOND)
    first = await face.invoke(graph, ask(), thread())
    fork = next(state for state in graph.get_state_history(thread()) if state.next == ("dispatch",))
    out = await face.invoke(graph, None, fork.config)
    assert out["answer"] == first["answer"]
    assert sorted(asked(edge)) == sorted("1234" * 2)


async def test_fork_from_the_end_of_the_work_pays_nothing(face: Face):
    edge = worker()
    graph = make_flow(edge).compile(InMemorySaver(), plan=DIAMOND)
    first = await face.invoke(graph, ask(), thread())
    fork = next(state for state in graph.get_state_history(thread()) if state.next == ("answer",))
    out = await face.invoke(graph, None, fork.config)
    assert out["answer"] == first["answer"]
    assert len(edge.calls) == 4


async def test_changed_question_makes_all_results_stale(face: Face):
    edge = worker()
    graph = make_flow(edge).compile(InMemorySaver(), plan=DIAMOND)
    await face.invoke(graph, ask(), thread())
    config = graph.update_state(thread(), {"question": "Something else?"}, as_node="dispatch")
    await face.invoke(graph, None, config)
    assert sorted(asked(edge)) == sorted("1234" * 2)
    assert "Something else?" in edge.calls[-1][-1].text


async def test_second_turn_makes_a_fresh_plan_and_sees_the_conversation(face: Face, edge):
    graph = make_flow(edge, planner="always").compile(InMemorySaver())
    first = await face.invoke(graph, ask("First question, and why?"), thread())
    before = len(edge.calls)
    out = await face.invoke(graph, ask("And the second?"), thread())
    assert sorted(asked(edge)[before:]) == ["1", "2", "3", "4", "plan"]
    prompt = edge.calls[before][-1].text
    assert "First question, and why?" in prompt
    assert first["answer"][:40] in prompt
    assert "And the second?" in prompt
    assert [message.type for message in out["messages"]] == ["human", "ai", "human", "ai"]


async def test_threads_know_nothing_of_each_other(face: Face):
    edge = worker()
    graph = make_flow(edge).compile(InMemorySaver(), plan=DIAMOND)
    await face.invoke(graph, ask("First?"), thread("a"))
    out = await face.invoke(graph, {"messages": [HumanMessage("Second?")]}, thread("b"))
    assert len(out["messages"]) == 2
    assert "First?" not in edge.calls[-1][-1].text


async def test_result_of_one_plan_is_not_taken_for_a_subtask_of_another_that_has_its_id():
    """A planner that is asked again after a crash writes another plan, with the same ids."""
    first_xml, other_xml = (
        plan_to_xml(Plan.model_validate(edited(DIAMOND, s1=task))) for task in ("Old?", "New?")
    )
    second = first_xml.index("<Step", first_xml.index("<Step") + 1)
    pauses, never = count(), Gate()

    async def asleep(_: float) -> None:
        if next(pauses) == 1:  # before the second piece of the first plan
            await never.wait_async()

    planner = ScriptedChatModel(
        responses=[[first_xml[:second], first_xml[second:]], other_xml],
        model_name="planner",
        asleep=asleep,
    )
    edge = worker({"1": lambda messages: "old" if "Old?" in messages[-1].text else "new"})
    graph = make_flow(edge, planner=planner).compile(InMemorySaver())
    await asyncio.wait_for(_until_finished(graph, "1"), PATIENCE_S)
    out = await graph.ainvoke(None, thread())
    assert out["results"]["1"]["answer"] == "new"
    assert out["report"]["complete"]


async def _until_finished(graph: Any, subtask_id: str) -> None:
    """Run a graph until the write of a subtask is through, and break it off there."""
    stream = graph.astream(ask(), thread(), stream_mode="updates")
    async for event in stream:
        if subtask_id in ((event.get("subtask") or {}).get("results") or {}):
            break
    await stream.aclose()
