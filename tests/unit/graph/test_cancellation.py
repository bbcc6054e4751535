"""A run that is cancelled leaves nothing behind, at whatever moment it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flowkit import (
    DIAMOND,
    Held,
    ask,
    assert_at_rest,
    make_flow,
    planning_worker,
    thread,
    wait_for_left_runs,
    worker,
)
from langgraph.checkpoint.memory import InMemorySaver

from langchain_hybridflow import Budget, Price
from langchain_hybridflow.routing import AlwaysCloud

PRICES = {"cloud": Price(1, 2)}


def paid_flow(**fields: Any) -> Any:
    return make_flow(
        planning_worker(DIAMOND),
        worker(model_name="cloud"),
        router=AlwaysCloud(),
        planner="always",
        budget=Budget(limit_usd=1, max_cloud_calls=100, prices=PRICES, deadline_s=60),
        **fields,
    )


async def settle() -> set[asyncio.Task[Any]]:
    """Give shielded bookings a moment; return the tasks that are left after it."""
    for _ in range(5):
        await asyncio.sleep(0)
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize("kind", ["compiled", "planned"])
@pytest.mark.parametrize("slots", [1, 64])
async def test_run_cancelled_at_any_tick_leaves_nothing_behind(kind: str, slots: int):
    flow = paid_flow(edge_slots=slots, cloud_slots=slots)
    graph = flow.compile(plan=DIAMOND) if kind == "compiled" else flow.compile()
    cancelled = 0
    for ticks in range(0, 400, 3):
        run = asyncio.create_task(graph.ainvoke(ask()))
        for _ in range(ticks):
            await asyncio.sleep(0)
        if run.done():
            break
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert await settle() == set(), f"cancelled at tick {ticks}"
        cancelled += 1
        for tier in flow._runner.slots.values():
            assert tier.free == tier.slots, f"cancelled at tick {ticks}"
        assert flow.model.budget.snapshot()["usd"]["held"] == 0, f"cancelled at tick {ticks}"
    assert cancelled > 20
    assert_at_rest(flow, waves=cancelled, runs=cancelled)


async def test_cancelled_calls_are_charged_and_not_held():
    slow = Held("never")
    flow = make_flow(
        cloud=worker({"2": slow}, model_name="cloud"),
        router=AlwaysCloud(),
        budget=Budget(limit_usd=1, prices=PRICES),
    )
    run = asyncio.create_task(flow.compile(plan=DIAMOND).ainvoke(ask()))
    await slow.began.wait_async()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await settle()
    state = flow.model.budget.snapshot()["usd"]
    assert state["held"] == 0
    assert state["spent"] > 0  # the model may have worked on
    assert_at_rest(flow, runs=1)


async def test_cancelled_run_is_resumed_in_the_same_process():
    slow = Held("in time")
    edge = worker({"2": slow})
    flow = make_flow(edge)
    graph = flow.compile(InMemorySaver(), plan=DIAMOND)
    run = asyncio.create_task(graph.ainvoke(ask(), thread()))
    await slow.began.wait_async()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    slow.release.open()
    out = await graph.ainvoke(None, thread())
    assert out["answer"] == "answer 4"
    assert_at_rest(flow, runs=1)


@pytest.mark.timeout(100)
async def test_run_cancelled_at_any_tick_is_resumed_in_the_same_process():
    flow = paid_flow(edge_slots=1, cloud_slots=2)
    graph = flow.compile(InMemorySaver())
    resumed = 0
    for ticks in range(5, 400, 9):
        config = thread(f"t{ticks}")
        run = asyncio.create_task(graph.ainvoke(ask(), config))
        for _ in range(ticks):
            await asyncio.sleep(0)
        if run.done():
            break
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        state = await graph.aget_state(config)
        out = await asyncio.wait_for(graph.ainvoke(None if state.created_at else ask(), config), 20)
        assert out["answer"] == "answer 4", f"cancelled at tick {ticks}"
        resumed += 1
    assert resumed > 10
    assert await settle() == set()


async def test_stream_that_its_reader_leaves_leaves_nothing_behind():
    flow = paid_flow()
    stream = flow.compile().astream(ask(), stream_mode="custom")
    async for _ in stream:
        break
    await stream.aclose()
    assert await settle() == set()
    assert_at_rest(flow, runs=1)


def test_sync_stream_that_its_reader_leaves_leaves_nothing_behind():
    flow = paid_flow()
    stream = flow.compile().stream(ask(), stream_mode="custom")
    next(stream)
    stream.close()
    wait_for_left_runs()
    assert_at_rest(flow, runs=1)


async def test_run_that_is_cancelled_disturbs_no_other():
    slow = Held("in time")
    flow = make_flow(worker({"2": slow}), edge_slots=1)
    graph = flow.compile(plan=DIAMOND)
    first = asyncio.create_task(graph.ainvoke(ask()))
    await slow.began.wait_async()
    second = asyncio.create_task(graph.ainvoke(ask()))
    await asyncio.sleep(0)
    first.cancel()
    slow.release.open()
    out = await asyncio.wait_for(second, 20)
    assert out["report"]["complete"]
    assert first.cancelled()
    assert_at_rest(flow, runs=1)
