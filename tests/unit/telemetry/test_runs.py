"""What is told of runs of a graph."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from opentelemetry.trace import StatusCode

from langchain_hybridflow import HybridFlowGraph, Plan
from langchain_hybridflow.errors import SubtaskError
from langchain_hybridflow.graph.tracing import RunSpans
from langchain_hybridflow.plan import Subtask
from langchain_hybridflow.routing import AlwaysEdge
from tests.unit.telemetry.test_calls import (
    CANARY,
    Recorder,
    facts,
    fake,
    id_of,
    parent_of,
    recorder,
    routed,
)

__all__ = ["recorder"]

QUESTION = {"messages": [("user", "What is the capital of the country with the Eiffel tower?")]}
PLAN = Plan.model_validate(
    {
        "subtasks": [
            {"id": "1", "task": "Explain?", "role": "explain", "depends_on": []},
            {"id": "2", "task": "Which?", "role": "analyze", "depends_on": ["1"]},
            {"id": "3", "task": "Where?", "role": "analyze", "depends_on": ["1"]},
            {"id": "4", "task": "So?", "role": "generate", "depends_on": ["2", "3"]},
        ]
    }
)


def graph(recorder: Recorder, **settings: Any) -> HybridFlowGraph:
    fields = settings.pop("model", {})
    return HybridFlowGraph(routed(recorder, **fields), **settings)


async def ran(app: Any, *, is_async: bool, config: Any = None) -> Any:
    return await app.ainvoke(QUESTION, config) if is_async else app.invoke(QUESTION, config)


both_sides = pytest.mark.parametrize("is_async", [False, True])


@both_sides
async def test_model_calls_are_below_subtasks_below_the_run(
    is_async: bool, recorder: Recorder
) -> None:
    await ran(graph(recorder).compile(plan=PLAN), is_async=is_async)
    run, subtasks = recorder.one("hybridflow.run"), recorder.named("hybridflow.subtask")
    assert parent_of(run) is None
    assert [parent_of(span) for span in subtasks] == [id_of(run)] * 4
    told = sorted(
        (facts(span)["hybridflow.subtask.id"], facts(span)["hybridflow.subtask.role"])
        for span in subtasks
    )
    assert told == [("1", "explain"), ("2", "analyze"), ("3", "analyze"), ("4", "generate")]
    chats = recorder.named("chat big")
    assert sorted(parent_of(span) for span in chats) == sorted(map(id_of, subtasks))  # type: ignore[type-var]


def test_run_and_subtasks_say_what_came_of_them(recorder: Recorder) -> None:
    graph(recorder).compile(plan=PLAN).invoke(QUESTION)
    run, subtask = recorder.one("hybridflow.run"), recorder.named("hybridflow.subtask")[0]
    told = facts(run)
    assert told.pop("hybridflow.run.id")
    assert told.pop("hybridflow.cost_usd") > 0
    assert told == {
        "hybridflow.run.resumed": False,
        "hybridflow.status": "complete",
        "hybridflow.degraded": False,
        "hybridflow.kept_local": False,
    }
    told = facts(subtask)
    assert (told["hybridflow.router"], told["hybridflow.tier"]) == ("always_cloud", "cloud")
    assert (told["hybridflow.status"], told["hybridflow.attempts"]) == ("ok", 1)


@both_sides
async def test_run_is_below_the_applications_own_span(is_async: bool, recorder: Recorder) -> None:
    with recorder.tracer.start_as_current_span("request"):
        await ran(graph(recorder).compile(plan=PLAN), is_async=is_async)
    assert parent_of(recorder.one("hybridflow.run")) == id_of(recorder.one("request"))


@both_sides
async def test_model_call_of_the_planner_is_below_the_run(
    is_async: bool, recorder: Recorder
) -> None:
    await ran(graph(recorder, planner="always").compile(), is_async=is_async)
    run = recorder.one("hybridflow.run")
    planning = [span for span in recorder.named("chat little") if parent_of(span) == id_of(run)]
    assert len(planning) >= 1


def test_each_run_has_its_own_spans(recorder: Recorder) -> None:
    app = graph(recorder).compile(plan=PLAN)
    app.batch([QUESTION] * 5)
    runs = {id_of(span) for span in recorder.named("hybridflow.run")}
    assert len(runs) == 5
    assert {parent_of(span) for span in recorder.named("hybridflow.subtask")} == runs


@both_sides
async def test_failed_subtask_is_an_error_and_the_run_is_none(
    is_async: bool, recorder: Recorder
) -> None:
    fields = {"edge": fake("little", ValueError("e")), "cloud": fake("big", ValueError("c"))}
    await ran(graph(recorder, model=fields).compile(plan=PLAN), is_async=is_async)
    (failed,) = recorder.named("hybridflow.subtask")  # the others were never begun
    assert failed.status.status_code is StatusCode.ERROR
    assert facts(recorder.one("hybridflow.run"))["hybridflow.status"] == "incomplete"


@both_sides
async def test_run_that_raises_ends_all_its_spans(is_async: bool, recorder: Recorder) -> None:
    fields = {"edge": fake("little", ValueError("e")), "cloud": fake("big", ValueError("c"))}
    built = graph(recorder, model=fields, on_subtask_error="raise")
    with pytest.raises(SubtaskError):
        await ran(built.compile(plan=PLAN), is_async=is_async)
    told = facts(recorder.one("hybridflow.run"))
    assert told["error.type"] == "langchain_hybridflow.errors.SubtaskError"
    assert len(recorder.named("hybridflow.subtask")) == 1
    assert len(built._runner.spans) == 0


@both_sides
async def test_run_that_waits_for_a_person_has_a_span_before_and_one_after(
    is_async: bool, recorder: Recorder
) -> None:
    built = graph(recorder, approve_cloud=True)
    app = built.compile(InMemorySaver(), plan=PLAN)
    config: Any = {"configurable": {"thread_id": "1"}}
    await ran(app, is_async=is_async, config=config)
    assert facts(recorder.one("hybridflow.run"))["hybridflow.status"] == "interrupted"
    while (state := app.get_state(config)).interrupts:
        answers = {one.id: True for one in state.interrupts}
        app.invoke(Command(resume=answers), config)
    *_, last = recorder.named("hybridflow.run")
    assert facts(last)["hybridflow.run.resumed"]
    assert facts(last)["hybridflow.status"] == "complete"
    assert len(built._runner.spans) == 0
    assert len(recorder.named("chat big")) == 4


def test_fallback_in_a_subtask_is_an_event(recorder: Recorder) -> None:
    model = {"cloud": fake("big", TimeoutError())}
    graph(recorder, model=model).compile(plan=PLAN).invoke(QUESTION)
    events = [event.name for event in recorder.named("hybridflow.subtask")[0].events]
    assert events == ["hybridflow.fallback"]


def test_no_question_task_or_answer_is_told(recorder: Recorder) -> None:
    app = graph(recorder, model={"cloud": fake("big", CANARY)}).compile()
    app.invoke({"messages": [("user", f"What is {CANARY}, and why is it so?")]})
    assert recorder.named("hybridflow.subtask")
    assert CANARY not in recorder.everything


def test_spans_of_runs_that_never_end_are_given_up(recorder: Recorder) -> None:
    spans = RunSpans(recorder.telemetry)
    for number in range(1_030):
        spans.begin(str(number))
        spans.subtask(str(number), Subtask(id="1", task="?", role="generate"))
    assert len(spans) == 1_024
    assert len(recorder.named("hybridflow.run")) == len(recorder.named("hybridflow.subtask")) == 6


def test_nothing_is_kept_without_telemetry() -> None:
    built = HybridFlowGraph(routed(Recorder(), telemetry=False, router=AlwaysEdge()))
    built.compile(plan=PLAN).invoke(QUESTION)
    assert len(built._runner.spans) == 0
