"""What goes wrong stays where it is, and the answer says what is missing."""

from __future__ import annotations

import asyncio
import threading
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
    plan_of,
    planning_worker,
    plans,
    thread,
    wide_plan,
    worker,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_hybridflow import Budget, HybridFlowGraph, Limits, Plan, Price, RoutedChatModel
from langchain_hybridflow.errors import (
    BudgetExceeded,
    ConfigurationError,
    InputError,
    RoutingError,
    SubtaskError,
)
from langchain_hybridflow.plan import plan_to_xml
from langchain_hybridflow.planner import ChatPlanner
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import ScriptedChatModel

BROKEN = ValueError("no idea")
NO_FALLBACK = {"on_edge_error": "raise", "on_cloud_error": "raise"}
PRICES = {"cloud": Price(1, 2)}


async def test_failed_subtask_is_contained(face: Face):
    flow = make_flow(worker({"2": BROKEN}), model=NO_FALLBACK)
    out = await face.invoke(flow.compile(plan=DIAMOND), ask())
    statuses = {key: record["status"] for key, record in out["results"].items()}
    assert statuses == {"1": "ok", "2": "failed", "3": "ok", "4": "skipped"}
    assert out["report"]["missing"] == ["2", "4"]
    assert not out["report"]["complete"]
    assert_at_rest(flow)


@given(data=st.data(), plan=plans(), limit=st.sampled_from([None, 1, 2]))
@settings(max_examples=20)
def test_failures_cost_exactly_what_depends_on_them(data: Any, plan: Plan, limit: int | None):
    failing = data.draw(st.sets(st.sampled_from(plan.order), max_size=3))
    config = {"max_concurrency": limit} if limit else {}
    expected: dict[str, str] = {}
    for key in plan.order:
        lost = any(expected[parent] != "ok" for parent in plan[key].depends_on)
        expected[key] = "skipped" if lost else "failed" if key in failing else "ok"
    for use_async in (False, True):
        flow = make_flow(worker(dict.fromkeys(failing, BROKEN)), model=NO_FALLBACK)
        graph = flow.compile(plan=plan)
        if use_async:
            out = asyncio.run(graph.ainvoke(ask(), config))
        else:
            out = graph.invoke(ask(), config)
        assert {key: record["status"] for key, record in out["results"].items()} == expected
        assert_at_rest(flow)


@given(data=st.data(), plan=plans(), limit=st.sampled_from([None, 1, 2]))
@settings(max_examples=20)
@pytest.mark.filterwarnings("ignore:coroutine 'arun_with_retry' was never awaited:RuntimeWarning")
def test_run_that_broke_off_anywhere_goes_on_and_pays_nothing_finished_again(
    data: Any, plan: Plan, limit: int | None
):
    failing = data.draw(st.sampled_from(plan.order))
    config = thread(**({"max_concurrency": limit} if limit else {}))
    for use_async in (False, True):
        actions: dict[str, Any] = {failing: BROKEN}
        edge = worker(actions)
        flow = make_flow(edge, model=NO_FALLBACK, on_subtask_error="raise")
        graph = flow.compile(InMemorySaver(), plan=plan)

        def run(given: Any, graph: Any = graph, use_async: bool = use_async) -> Any:
            if use_async:
                return asyncio.run(graph.ainvoke(given, config))
            return graph.invoke(given, config)

        with pytest.raises(SubtaskError):
            run(ask())
        written = [task.result or {} for task in graph.get_state(config).tasks]
        done = {key for update in written for key in update.get("results") or {}}
        actions[failing] = "mended"
        before = len(edge.calls)
        assert run(None)["report"]["complete"]
        assert not done & set(asked(edge)[before:])


async def test_answer_says_what_is_missing_and_what_was_found(face: Face):
    flow = make_flow(worker({"2": BROKEN}), model=NO_FALLBACK)
    out = await face.invoke(flow.compile(plan=DIAMOND), ask())
    assert "Missing: Part 2? (edge: ValueError: no idea)" in out["answer"]
    assert "Missing: Part 4?" in out["answer"]
    assert "Found: Part 3? answer 3" in out["answer"]
    assert out["messages"][-1].text == out["answer"]


async def test_error_text_never_reaches_another_model(face: Face):
    edge = worker({"2": ValueError("CANARY")})
    await face.invoke(make_flow(edge, model=NO_FALLBACK).compile(plan=DIAMOND), ask())
    assert not any("CANARY" in message.text for call in edge.calls for message in call)


async def test_skipped_subtask_says_whose_result_it_needs(face: Face):
    flow = make_flow(worker({"1": BROKEN}), model=NO_FALLBACK)
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert out["results"]["2"]["error"] == "needs the result of 1, which has none"
    assert out["results"]["3"]["error"] == "needs the result of 2, which has none"


async def test_failed_edge_falls_back_to_the_cloud(face: Face):
    flow = make_flow(worker({"2": BROKEN}), worker(model_name="cloud"))
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert out["results"]["2"]["tier"] == "cloud"
    assert out["report"]["complete"]


async def test_failed_cloud_falls_back_to_the_edge_and_its_reservation_is_released(face: Face):
    cloud = worker(dict.fromkeys("123", ConnectionRefusedError("down")), model_name="cloud")
    flow = make_flow(cloud=cloud, router=AlwaysCloud(), budget=Budget(limit_usd=1, prices=PRICES))
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert {record["tier"] for record in out["results"].values()} == {"edge"}
    assert flow.model.budget.snapshot()["usd"]["spent"] == 0
    assert_at_rest(flow)


async def test_failed_subtask_ends_the_run_when_errors_are_raised(face: Face):
    flow = make_flow(worker({"2": BROKEN}), model=NO_FALLBACK, on_subtask_error="raise")
    with pytest.raises(SubtaskError, match=r"'2'.*no idea") as caught:
        await face.invoke(flow.compile(plan=DIAMOND), ask())
    assert caught.value.subtask_id == "2"
    assert_at_rest(flow, runs=1)


async def test_run_goes_on_in_the_same_process_after_an_error_was_raised(face: Face):
    actions: dict[str, Any] = {"3": BROKEN}
    edge = worker(actions)
    flow = make_flow(edge, model=NO_FALLBACK, on_subtask_error="raise")
    graph = flow.compile(InMemorySaver(), plan=plan_of({"1": "", "2": "1", "3": "2", "4": "3"}))
    with pytest.raises(SubtaskError):
        await face.invoke(graph, ask(), thread())
    actions["3"] = "mended"
    out = await face.invoke(graph, None, thread())
    assert out["answer"] == "answer 4"
    assert asked(edge) == ["1", "2", "3", "3", "4"]
    assert_at_rest(flow)


# LangGraph's own, for tasks that are cancelled while they wait for `max_concurrency`.
@pytest.mark.filterwarnings("ignore:coroutine 'arun_with_retry' was never awaited:RuntimeWarning")
@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.timeout(60)
async def test_run_goes_on_after_an_error_that_kept_members_from_beginning(face: Face, limit: int):
    actions: dict[str, Any] = {"2": BROKEN}
    flow = make_flow(worker(actions), model=NO_FALLBACK, on_subtask_error="raise")
    graph = flow.compile(InMemorySaver(), plan=CHAIN)
    with pytest.raises(SubtaskError):
        await face.invoke(graph, ask(), thread(max_concurrency=limit))
    actions["2"] = "mended"
    out = await face.invoke(graph, None, thread(max_concurrency=limit))
    assert out["answer"] == "answer 3"


async def test_subtask_that_takes_too_long_fails_and_its_siblings_do_not(face: Face):
    slow = Held("too late")
    flow = make_flow(worker({"2": slow}), model=NO_FALLBACK, subtask_timeout_s=0.2)
    out = await face.invoke(flow.compile(plan=DIAMOND), ask())
    slow.release.open()
    assert out["results"]["2"]["status"] == "failed"
    assert "longer than 0.2 s" in out["results"]["2"]["error"]
    assert out["results"]["3"]["status"] == "ok"
    assert_at_rest(flow)


async def test_late_cloud_call_is_charged_at_its_worst_case(face: Face):
    slow = Held("too late")
    flow = make_flow(
        cloud=worker({"2": slow}, model_name="cloud"),
        router=AlwaysCloud(),
        model=NO_FALLBACK,
        subtask_timeout_s=0.2,
        budget=Budget(limit_usd=1, prices=PRICES),
    )
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    slow.release.open()
    attempt = out["results"]["2"]["attempts"][0]
    assert attempt["output_tokens"] == flow.model.max_output_tokens
    assert float(attempt["cost_usd"]) > 0
    assert_at_rest(flow)


async def test_run_past_its_deadline_starts_no_call_and_ends(face: Face):
    slow = Held("too late")
    edge = worker({"2": slow})
    flow = make_flow(edge, budget=Budget(deadline_s=0.3))
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    slow.release.open()
    assert out["results"]["2"]["status"] == "failed"
    assert out["results"]["3"]["status"] == "skipped"
    assert asked(edge) == ["1", "2"]
    assert_at_rest(flow)


async def test_waiting_for_a_slot_ends_with_the_deadline(face: Face):
    flow = make_flow(edge_slots=1, budget=Budget(deadline_s=0.2), model=NO_FALLBACK)
    slots = flow._runner.slots["edge"]
    slots.turn().perform()  # another run holds the edge
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert "slot" in out["results"]["1"]["error"]
    slots.leave()
    assert_at_rest(flow)


async def test_planning_past_the_deadline_falls_back_and_ends(face: Face):
    planning = Held("no plan")
    edge = planning_worker(DIAMOND, {"plan": planning})
    flow = make_flow(edge, planner="always", budget=Budget(deadline_s=0.3))
    out = await face.invoke(flow.compile(), ask())
    planning.release.open()
    assert out["report"]["planning"]["source"] == "fallback"
    assert not out["report"]["complete"]
    assert_at_rest(flow)


async def test_exhausted_budget_sends_the_rest_to_the_edge(face: Face):
    flow = make_flow(router=AlwaysCloud(), budget=Budget(max_cloud_calls=2))
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert [out["results"][key]["tier"] for key in "123"] == ["cloud", "cloud", "edge"]
    assert out["results"]["3"]["degraded"]
    assert out["report"]["degraded"]
    assert_at_rest(flow)


async def test_exhausted_budget_raises_when_told_to(face: Face):
    budget = Budget(max_cloud_calls=1, on_exhausted="raise")
    flow = make_flow(router=AlwaysCloud(), budget=budget, on_subtask_error="raise")
    with pytest.raises(SubtaskError, match="cloud_calls") as caught:
        await face.invoke(flow.compile(plan=CHAIN), ask())
    assert isinstance(caught.value.__cause__, BudgetExceeded)
    assert_at_rest(flow, runs=1)


async def test_parallel_runs_never_pass_the_shared_limit(face: Face):
    cloud = worker(model_name="cloud")
    flow = make_flow(cloud=cloud, router=AlwaysCloud(), budget=Budget(max_cloud_calls=7))
    graph = flow.compile(plan=DIAMOND)
    await asyncio.gather(*(face.invoke(graph, ask()) for _ in range(5)))
    assert len(cloud.calls) == 7
    assert_at_rest(flow)


async def test_each_run_has_limits_of_its_own(face: Face):
    cloud = worker(model_name="cloud")
    budget = Budget(per_run=Limits(cloud_calls=1))
    flow = make_flow(cloud=cloud, router=AlwaysCloud(), budget=budget)
    graph = flow.compile(plan=DIAMOND)
    for _ in range(3):
        await face.invoke(graph, ask())
    assert len(cloud.calls) == 3


async def test_failing_router_sends_to_the_edge_and_says_so(face: Face):
    class Broken:
        def route(self, request: Any) -> Any:
            raise KeyError("features")

    flow = make_flow(router=Broken())
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert {record["tier"] for record in out["results"].values()} == {"edge"}
    assert "Broken failed" in out["results"]["1"]["decision"]["reason"]


async def test_failing_router_ends_the_run_when_told_to(face: Face):
    class Broken:
        def route(self, request: Any) -> Any:
            raise KeyError("features")

    flow = make_flow(router=Broken(), model={"on_router_error": "raise"})
    with pytest.raises(RoutingError, match="features"):
        await face.invoke(flow.compile(plan=CHAIN), ask())
    assert_at_rest(flow, runs=1)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param([], id="no messages"),
        pytest.param([HumanMessage("")], id="empty"),
        pytest.param([HumanMessage(" \n ")], id="blank"),
        pytest.param([AIMessage("Hello")], id="nobody asked"),
        pytest.param([HumanMessage("x" * 1_000_000)], id="1 MB"),
        pytest.param([HumanMessage([{"type": "image", "url": "http://x"}])], id="image"),
    ],
)
async def test_bad_question_is_refused_before_anything_is_spent(face: Face, bad: list[Any]):
    edge = planning_worker(DIAMOND)
    flow = make_flow(edge, planner="always")
    with pytest.raises(InputError):
        await face.invoke(flow.compile(), {"messages": bad})
    assert edge.calls == []
    assert_at_rest(flow)


async def test_long_question_is_taken_when_it_is_allowed(face: Face):
    flow = make_flow(max_question_chars=2_000_000)
    out = await face.invoke(flow.compile(plan=CHAIN), ask("why? " * 200_000))
    assert out["report"]["complete"]


@pytest.mark.parametrize("text", ["", "garbage", "<Plan>", "<Plan></Plan>", "<Plan><Step/></Plan>"])
async def test_useless_plan_becomes_one_subtask(face: Face, text: str):
    edge = planning_worker(DIAMOND, {"plan": text})
    flow = make_flow(edge, planner="always")
    out = await face.invoke(flow.compile(), ask())
    assert list(out["results"]) == ["1"]
    assert out["report"]["planning"]["source"] == "fallback"
    assert asked(edge).count("plan") <= 2
    assert_at_rest(flow)


async def test_plan_stream_that_breaks_keeps_what_had_begun(face: Face):
    planner = ScriptedChatModel(
        responses=[_pieces(plan_to_xml(DIAMOND))],
        model_name="planner",
        fail_after_chunks=4,
    )
    edge = worker()
    flow = make_flow(edge, planner=planner)
    out = await face.invoke(flow.compile(), ask())
    assert out["report"]["complete"]
    assert len(asked(edge)) == len(set(asked(edge))) == len(out["results"])
    assert_at_rest(flow)


def _pieces(xml: str) -> list[str]:
    """One step a chunk."""
    return [f"{part}>" for part in xml.split(">") if part]


async def test_subtask_is_answered_by_the_other_tier_when_the_first_returns_no_text(face: Face):
    flow = make_flow(worker(dict.fromkeys("123", " \n")), worker(dict.fromkeys("123", "words")))
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert {record["tier"] for record in out["results"].values()} == {"cloud"}
    assert "returned no text" in out["results"]["1"]["attempts"][0]["error"]
    assert_at_rest(flow)


async def test_subtask_fails_when_no_tier_returns_any_text(face: Face):
    nothing = dict.fromkeys("123", "")
    flow = make_flow(worker(nothing), worker(nothing))
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert out["report"]["missing"] == ["1", "2", "3"]
    assert "returned no text" in out["answer"]
    assert_at_rest(flow)


def test_planner_in_the_cloud_is_refused_when_cloud_calls_need_approval():
    cloud = worker({})
    routed = RoutedChatModel(edge=worker({}), cloud=cloud)
    with pytest.raises(ConfigurationError, match="this planner is in"):
        HybridFlowGraph(routed, planner=cloud, approve_cloud=True)
    HybridFlowGraph(routed, planner=ChatPlanner(model=cloud, tier="edge"), approve_cloud=True)


@pytest.mark.parametrize("stream_plan", [True, False])
async def test_planner_of_somebody_else_may_return_a_plan_of_any_size(
    face: Face, stream_plan: bool
):
    class Wide:
        def plan(self, question: str) -> Any:
            return wide_plan(20)

    flow = make_flow(planner=Wide(), stream_plan=stream_plan)
    out = await face.invoke(flow.compile(), ask())
    assert len(out["results"]) == 22
    assert_at_rest(flow)


async def test_async_planner_of_somebody_else_is_awaited():
    class Async:
        def plan(self, question: str) -> Any:
            raise AssertionError

        async def aplan(self, question: str) -> Any:
            return CHAIN

    out = await make_flow(planner=Async()).compile().ainvoke(ask())
    assert out["report"]["planning"]["source"] == "planner"
    assert out["answer"] == "answer 3"


async def test_planner_of_somebody_else_that_returns_no_plan_is_contained(face: Face):
    class Wrong:
        def plan(self, question: str) -> Any:
            return "first this, then that"

    out = await face.invoke(make_flow(planner=Wrong()).compile(), ask())
    assert "must return a Plan, got str" in out["report"]["planning"]["reason"]


async def test_planner_of_somebody_else_that_fails_is_contained(face: Face):
    class Broken:
        def plan(self, question: str) -> Any:
            raise RuntimeError("no plan today")

    out = await face.invoke(make_flow(planner=Broken()).compile(), ask())
    assert out["report"]["planning"]["source"] == "fallback"
    assert "no plan today" in out["report"]["planning"]["reason"]


@pytest.mark.parametrize(
    "fields",
    [
        {"on_subtask_error": "ignore"},
        {"subtask_timeout_s": 0},
        {"subtask_timeout_s": float("nan")},
        {"edge_slots": 0},
        {"planner": "sometimes"},
    ],
)
def test_flow_refuses_parameters_that_cannot_work(fields: dict[str, Any]):
    with pytest.raises(ConfigurationError):
        make_flow(**fields)


def test_flow_refuses_a_plain_chat_model():
    with pytest.raises(ConfigurationError, match="RoutedChatModel"):
        HybridFlowGraph(worker())  # type: ignore[arg-type]


class NotNow(Exception):
    status_code = 503


async def test_planner_is_not_asked_again_once_a_part_of_the_plan_has_come(face: Face):
    xml = plan_to_xml(DIAMOND)
    half = xml[: xml.index("<Step", xml.index("<Step") + 1)]
    planner = ScriptedChatModel(
        responses=[[half, "<St"]], fail_after_chunks=1, stream_error=NotNow()
    )
    flow = make_flow(worker(), planner=planner)
    out = await face.invoke(flow.compile(), ask())
    assert len(planner.calls) == 1
    assert [attempt["status"] for attempt in out["report"]["planning"]["attempts"]] == ["failed"]
    assert [subtask["task"] for subtask in out["plan"]["subtasks"]].count("1?") <= 1
    assert_at_rest(flow)


async def test_planner_of_somebody_else_is_held_to_the_deadline(face: Face):
    released = threading.Event()

    class Slow:
        def plan(self, question: str) -> Any:
            released.wait(30)
            return CHAIN

        async def aplan(self, question: str) -> Any:
            await asyncio.sleep(30)

    flow = make_flow(planner=Slow(), budget=Budget(deadline_s=0.2))
    out = await face.invoke(flow.compile(), ask())
    released.set()
    assert out["report"]["planning"]["source"] == "fallback"
    assert not out["report"]["complete"]


def test_planner_whose_plan_is_async_is_refused():
    class Async:
        async def plan(self, question: str) -> Any:
            raise AssertionError

    with pytest.raises(ConfigurationError, match="Name it aplan"):
        make_flow(planner=Async())


async def test_question_with_half_a_surrogate_pair_is_refused(face: Face):
    with pytest.raises(InputError, match="surrogate"):
        await face.invoke(make_flow().compile(plan=CHAIN), ask("why \ud800?"))


async def test_trivial_question_stays_trivial_in_a_long_conversation(face: Face):
    said = "First 12 * 14 = 168, then 168 / 3 = 56, therefore 56 per box, in total 112 each."
    flow = make_flow(planner="auto")
    messages = [HumanMessage("How?"), AIMessage(said), HumanMessage("Thanks!")]
    out = await face.invoke(flow.compile(), {"messages": messages})
    assert out["report"]["planning"]["source"] == "trivial"
    assert out["plan"]["subtasks"][0]["task"] == "Thanks!"
