"""No barrier: a subtask starts when its last dependency ends, whatever else is still running."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from flowkit import (
    CHAIN,
    DIAMOND,
    PATIENCE_S,
    Face,
    Gate,
    Held,
    ask,
    asked,
    assert_at_rest,
    make_flow,
    plan_of,
    planning_worker,
    plans,
    results_in,
    wide_plan,
    worker,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage

from langchain_hybridflow import Budget, Plan, Price
from langchain_hybridflow.plan import plan_to_xml
from langchain_hybridflow.planner import ChatPlanner
from langchain_hybridflow.routing import (
    AlwaysCloud,
    AlwaysEdge,
    RandomRouter,
    RouteDecision,
    RouteRequest,
)
from langchain_hybridflow.testing import ScriptedChatModel

LOPSIDED = plan_of({"1": "", "2": "1", "3": "1", "4": "2", "5": "3 4"})


async def test_subtask_starts_when_its_dependency_ends_though_a_sibling_still_runs(face: Face):
    slow, below = Held("slow"), Held("below")
    below.release.open()
    edge = worker({"3": slow, "4": below})
    run = asyncio.create_task(face.invoke(make_flow(edge).compile(plan=LOPSIDED), ask()))
    await below.began.wait_async()  # 4 needs only 2; 3, a sibling of 2, is held
    assert not run.done()
    slow.release.open()
    assert (await run)["answer"] == "answer 5"


async def test_subtask_sees_exactly_the_results_it_depends_on(face: Face):
    edge = worker()
    await face.invoke(make_flow(edge).compile(plan=DIAMOND), ask())
    seen = {key: results_in(call) for key, call in zip(asked(edge), edge.calls, strict=True)}
    assert seen == {
        "1": {},
        "2": {"1": "answer 1"},
        "3": {"1": "answer 1"},
        "4": {"2": "answer 2", "3": "answer 3"},
    }


async def test_subtask_starts_while_the_plan_is_still_being_written(face: Face):
    xml = plan_to_xml(DIAMOND)
    second = xml.index("<Step", xml.index("<Step") + 1)
    written, first = Gate(), Held("first")
    first.release.open()

    planner = _stalling_planner(xml[:second], xml[second:], until=first.began, written=written)
    flow = make_flow(worker({"1": first}), planner=planner)
    out = await face.invoke(flow.compile(), ask())
    assert out["answer"] == "answer 4"
    assert written.is_open
    assert_at_rest(flow)


def _stalling_planner(head: str, tail: str, *, until: Gate, written: Gate):
    """A planner that goes on writing only after `until` has opened."""
    pauses = iter(range(1_000_000))

    def sleep(_: float) -> None:
        if next(pauses) == 1:  # before the second chunk
            until.wait()
            written.open()

    async def asleep(_: float) -> None:
        if next(pauses) == 1:
            await until.wait_async()
            written.open()

    return ScriptedChatModel(
        responses=[[head, tail]], model_name="planner", sleep=sleep, asleep=asleep
    )


async def test_subtasks_wait_for_the_whole_plan_when_stream_plan_is_off(face: Face):
    log: list[str] = []
    edge = planning_worker(DIAMOND, log=log)
    await face.invoke(make_flow(edge, planner="always", stream_plan=False).compile(), ask())
    assert log[:2] == ["+plan", "-plan"]


@pytest.mark.parametrize("stream_plan", [True, False])
async def test_planned_graph_runs_every_subtask_once(face: Face, stream_plan: bool):
    edge = planning_worker(LOPSIDED)
    flow = make_flow(edge, planner="always", stream_plan=stream_plan)
    out = await face.invoke(flow.compile(), ask())
    assert sorted(asked(edge)) == ["1", "2", "3", "4", "5", "plan"]
    assert out["plan"] == LOPSIDED.model_dump(mode="json")
    assert_at_rest(flow)


async def test_plan_wider_than_the_thread_pool_runs_all_of_its_width_at_once(face: Face):
    width = min(32, (os.cpu_count() or 1) + 4) + 30  # Python's default pool is the first term
    everybody_is_there, arrived = Gate(), []

    def join(_: list[BaseMessage]) -> Held:
        arrived.append(1)
        if len(arrived) == width:
            everybody_is_there.open()
        return Held("here", release=everybody_is_there)

    edge = worker({f"m{index}": join for index in range(width)})
    flow = make_flow(edge, edge_slots=width)
    await face.invoke(flow.compile(plan=wide_plan(width)), ask())
    assert edge.max_concurrency_seen == width


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("kind", ["compiled", "planned", "streamed"])
@pytest.mark.timeout(60)
async def test_limited_concurrency_never_deadlocks(face: Face, kind: str, limit: int):
    plan = plan_of({"1": "", "a": "1", "b": "1", "c": "a", "d": "a b", "6": "c d"})
    flow = make_flow(planning_worker(plan), planner="always", stream_plan=kind == "streamed")
    graph = flow.compile(plan=plan) if kind == "compiled" else flow.compile()
    out = await face.invoke(graph, ask(), {"max_concurrency": limit})
    assert out["answer"] == "answer 6"
    assert_at_rest(flow)


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_max_concurrency_limits_the_calls(face: Face, limit: int):
    edge = worker(latency_s=0.0)
    await face.invoke(make_flow(edge).compile(plan=wide_plan(8)), ask(), {"max_concurrency": limit})
    assert edge.max_concurrency_seen <= limit


_TIMES = ("ready_at", "started_at", "ended_at", "timeline", "message_id")


def _timeless(out: dict) -> dict:
    """What must be the same whenever, and in whatever order, the subtasks ran."""
    results = {
        key: {name: value for name, value in record.items() if name not in _TIMES}
        for key, record in out["results"].items()
    }
    return {"answer": out["answer"], "plan": out["plan"], "results": results}


def _echo(messages: list[BaseMessage]) -> str:
    """An answer that depends on all that the subtask was shown."""
    return f"{sorted(results_in(messages).items())}"[-200:]


@given(plan=plans(), seed=st.integers(0, 100), limit=st.sampled_from([None, 1, 2, 3]))
@settings(max_examples=25)
def test_sync_and_async_give_the_same_results(plan: Plan, seed: int, limit: int | None):
    def run(*, use_async: bool, planned: bool) -> dict:
        actions = dict.fromkeys(plan.order, _echo) | {"plan": plan_to_xml(plan)}
        flow = make_flow(
            worker(actions),
            worker(actions, model_name="cloud"),
            router=RandomRouter(cloud_share=0.5, seed=seed),
            planner="always",
            budget=Budget(limit_usd=1, prices={"cloud": Price(1, 2)}),
        )
        if planned:
            flow.planner = ChatPlanner(skip_trivial=False, max_subtasks=12)
        graph = flow.compile() if planned else flow.compile(plan=plan)
        config = {"max_concurrency": limit} if limit else {}
        if use_async:
            out = asyncio.run(graph.ainvoke(ask(), config))
        else:
            out = graph.invoke(ask(), config)
        assert_at_rest(flow)
        return _timeless(out)

    reference = run(use_async=False, planned=False)
    assert run(use_async=True, planned=False) == reference
    assert run(use_async=False, planned=True) == reference
    assert run(use_async=True, planned=True) == reference


async def test_plan_of_500_subtasks_runs(face: Face):
    plan = wide_plan(498)
    flow = make_flow(edge_slots=8)
    out = await face.invoke(flow.compile(plan=plan), ask())
    assert len(out["results"]) == 500
    assert out["report"]["complete"]


async def test_batch_answers_each_question(face: Face):
    flow = make_flow()
    graph = flow.compile(plan=CHAIN)
    questions = [ask(f"Question {index}?") for index in range(6)]
    if face.name == "sync":
        outs = await asyncio.to_thread(graph.batch, questions)
    else:
        outs = await graph.abatch(questions)
    assert [out["messages"][0].text for out in outs] == [f"Question {i}?" for i in range(6)]
    assert all(out["report"]["complete"] for out in outs)
    assert_at_rest(flow)


class SlowOnce:
    """Sends everything to the edge, and takes its time over the first subtask 2 that it sees."""

    def __init__(self) -> None:
        self.began, self.release = Gate(), Gate()

    def route(self, request: RouteRequest) -> RouteDecision:
        """Decide."""
        if request.subtask_id == "2" and not self.began.is_open:
            self.began.open()
            self.release.wait()
        return AlwaysEdge().route(request)


@pytest.mark.parametrize("kind", ["compiled", "planned"])
def test_runs_at_the_same_time_never_see_each_others_results(kind: str):
    def answer(messages: list[BaseMessage]) -> str:
        return "one" if "First?" in messages[-1].text else "two"

    edge, router = planning_worker(CHAIN, {"1": answer, "2": answer}), SlowOnce()
    flow = make_flow(edge, router=router, planner="always")
    graph = flow.compile(plan=CHAIN if kind == "compiled" else None)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(graph.invoke, ask("First?"))
        router.began.wait()
        graph.invoke(ask("Second?"))
        router.release.open()
        first.result(PATIENCE_S)
    seen = [(answer(call), results_in(call)) for call in edge.calls if results_in(call)]
    assert seen == [
        ("two", {"1": "two"}),
        ("two", {"2": "two"}),
        ("one", {"1": "one"}),
        ("one", {"2": "one"}),
    ]


def test_several_event_loops_and_threads_share_one_flow():
    cloud = worker(model_name="cloud")
    flow = make_flow(
        cloud=cloud,
        router=AlwaysCloud(),
        cloud_slots=2,
        budget=Budget(limit_usd=1, prices={"cloud": Price(1, 2)}),
    )
    graph = flow.compile(plan=DIAMOND)

    def in_a_loop_of_its_own() -> int:
        async def many() -> list:
            return await asyncio.gather(*(graph.ainvoke(ask()) for _ in range(5)))

        return sum(out["report"]["complete"] for out in asyncio.run(many()))

    def blocking() -> int:
        return sum(graph.invoke(ask())["report"]["complete"] for _ in range(5))

    with ThreadPoolExecutor(6) as pool:
        runs = [pool.submit(in_a_loop_of_its_own) for _ in range(3)]
        runs += [pool.submit(blocking) for _ in range(3)]
        assert sum(run.result(2 * PATIENCE_S) for run in runs) == 30
    assert cloud.max_concurrency_seen <= 2
    assert_at_rest(flow)
