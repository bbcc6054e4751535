"""Slots of a tier: so many calls at once, the most urgent first, and none is ever lost."""

from __future__ import annotations

import asyncio
import threading

import pytest
from flowkit import (
    DIAMOND,
    Face,
    Held,
    ask,
    asked,
    assert_at_rest,
    make_flow,
    plan_of,
    planning_worker,
    until,
    worker,
)
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError, DeadlineExceeded
from langchain_hybridflow.graph.slots import TierSlots
from langchain_hybridflow.routing import AlwaysCloud, RouteDecision, RouteRequest


@pytest.mark.parametrize("slots", [0, -1])
def test_slots_refuse_a_tier_without_any(slots: int):
    with pytest.raises(ConfigurationError, match="at least one slot"):
        TierSlots(slots)


def test_most_urgent_waiter_goes_first():
    slots = TierSlots(1)
    slots.turn().perform()
    line = {urgency: slots.queue(urgency) for urgency in (1.0, 3.0, 2.0)}
    order = []
    for _ in line:
        slots.leave()
        order += [key for key, turn in line.items() if turn.done() and key not in order]
    assert order == [3.0, 2.0, 1.0]


def test_equals_are_served_in_order_of_arrival():
    slots = TierSlots(1)
    slots.turn().perform()
    first, second = slots.queue(1.0), slots.queue(1.0)
    slots.leave()
    assert (first.done(), second.done()) == (True, False)


def test_waiter_gives_up_after_its_time():
    slots = TierSlots(1)
    slots.turn().perform()
    with pytest.raises(DeadlineExceeded, match="slot"):
        slots.turn(timeout_s=0.01).perform()
    slots.leave()
    assert slots.free == 1


async def test_async_waiter_gives_up_after_its_time():
    slots = TierSlots(1)
    await slots.turn().aperform()
    with pytest.raises(DeadlineExceeded, match="slot"):
        await slots.turn(timeout_s=0.01).aperform()
    slots.leave()
    assert slots.free == 1


@pytest.mark.parametrize("timeout_s", [None, 30.0])
async def test_waiter_cancelled_in_the_moment_of_its_grant_loses_no_slot(timeout_s: float | None):
    slots = TierSlots(1)
    await slots.turn().aperform()
    waiter = asyncio.create_task(slots.turn(timeout_s=timeout_s).aperform())
    await asyncio.sleep(0)
    slots.leave()  # granted, and not yet noticed
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert slots.free == 1


@pytest.mark.parametrize("timeout_s", [None, 30.0])
@pytest.mark.parametrize("ticks", range(6))
async def test_cancelled_waiter_stays_cancelled_at_any_tick_after_its_grant(
    timeout_s: float | None, ticks: int
):
    slots = TierSlots(1)
    await slots.turn().aperform()
    waiter = asyncio.create_task(slots.turn(timeout_s=timeout_s).aperform())
    await asyncio.sleep(0)
    slots.leave()
    for _ in range(ticks):
        await asyncio.sleep(0)
    cancelled = waiter.cancel()
    outcome = (await asyncio.gather(waiter, return_exceptions=True))[0]
    assert isinstance(outcome, asyncio.CancelledError) == cancelled
    if not cancelled:
        slots.leave()  # it had the slot before
    assert slots.free == 1


@given(st.lists(st.sampled_from(["queue", "leave", "give up"]), max_size=40), st.integers(1, 3))
def test_slots_are_conserved(moves: list[str], size: int):
    slots, turns = TierSlots(size), []
    for move in moves:
        holders = [turn for turn in turns if turn.done()]
        waiting = [turn for turn in turns if not turn.done()]
        if move == "queue":
            turns.append(slots.queue(float(len(turns) % 3)))
        elif move == "leave" and holders:
            turns.remove(holders[0])
            slots.leave()
        elif move == "give up" and waiting:
            turns.remove(waiting[0])
            slots.give_up(waiting[0])
        holders = [turn for turn in turns if turn.done()]
        assert slots.free + len(holders) == size
        assert slots.free == 0 or len(holders) == len(turns)  # nobody waits before a free slot


def test_slots_are_conserved_under_threads():
    slots, inside, seen = TierSlots(3), [], []
    lock = threading.Lock()

    def work(urgency: int) -> None:
        for _ in range(50):
            slots.turn(urgency=urgency).perform()
            with lock:
                inside.append(urgency)
                seen.append(len(inside))
            with lock:
                inside.remove(urgency)
            slots.leave()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(12)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert slots.free == 3
    assert len(seen) == 600
    assert max(seen) <= 3


async def test_one_edge_slot_is_serial_over_concurrent_runs(face: Face):
    edge = worker()
    flow = make_flow(edge, edge_slots=1)
    graph = flow.compile(plan=plan_of({"1": "", "2": "1", "3": "1", "4": "2 3"}))
    await asyncio.gather(*(face.invoke(graph, ask()) for _ in range(6)))
    assert edge.max_concurrency_seen == 1
    assert len(edge.calls) == 24
    assert_at_rest(flow)


async def test_tiers_have_slots_of_their_own(face: Face):
    edge, cloud = Held("edge"), Held("cloud")
    flow = make_flow(
        worker({"2": edge}),
        worker({"3": cloud}, model_name="cloud"),
        router=ByTask("3"),
        edge_slots=1,
        cloud_slots=1,
    )
    plan = plan_of({"1": "", "2": "1", "3": "1", "4": "2 3"})
    run = asyncio.create_task(face.invoke(flow.compile(plan=plan), ask()))
    await edge.began.wait_async()
    await cloud.began.wait_async()  # at the same time as the edge call
    edge.release.open()
    cloud.release.open()
    assert (await run)["report"]["complete"]


class ByTask:
    """Sends the subtasks named to the cloud, the others to the edge."""

    def __init__(self, *cloud: str) -> None:
        self.cloud = cloud

    def route(self, request: RouteRequest) -> RouteDecision:
        tier = "cloud" if request.subtask_id in self.cloud else "edge"
        return RouteDecision(tier=tier, reason="by task", router="test")


async def test_longest_remaining_path_goes_first_among_those_that_wait(face: Face):
    edge = worker()
    flow = make_flow(edge, router=ByTask("1"), edge_slots=1)
    plan = plan_of(
        {"1": "", "short": "1", "middle": "1", "long": "1", "end": "short middle long"},
        {"1": 10, "short": 50, "middle": 100, "long": 150, "end": 10},
    )
    slots = flow._runner.slots["edge"]
    slots.turn().perform()  # somebody else is on the edge
    run = asyncio.create_task(face.invoke(flow.compile(plan=plan), ask()))
    await until(lambda: len(slots._waiting) == 3)
    slots.leave()
    await run
    assert asked(edge) == ["long", "middle", "short", "end"]


@pytest.mark.xfail(
    strict=True,
    reason="a slot is given on before the subtasks that its result makes ready can ask for it",
)
async def test_longest_remaining_path_goes_first_though_it_becomes_ready_just_now():
    edge = worker()
    flow = make_flow(edge, edge_slots=1)
    plan = plan_of(
        {"1": "", "short": "1", "long": "1", "tail": "long", "5": "short tail"},
        {"1": 10, "short": 50, "long": 50, "tail": 300, "5": 10},
    )
    await flow.compile(plan=plan).ainvoke(ask())
    assert asked(edge) == ["1", "long", "tail", "short", "5"]


async def test_calls_of_the_cloud_stay_within_its_slots(face: Face):
    cloud = worker(model_name="cloud")
    flow = make_flow(cloud=cloud, router=AlwaysCloud(), cloud_slots=2)
    middle = {f"m{index}": "1" for index in range(9)}
    graph = flow.compile(plan=plan_of({"1": "", **middle, "end": " ".join(middle)}))
    await asyncio.gather(*(face.invoke(graph, ask()) for _ in range(3)))
    assert cloud.max_concurrency_seen <= 2
    assert_at_rest(flow)


async def test_planning_takes_a_slot_of_the_edge(face: Face):
    planning = Held("no plan")
    edge = planning_worker(DIAMOND, {"plan": planning})
    flow = make_flow(edge, planner="always", edge_slots=1)
    graph = flow.compile()
    runs = [asyncio.create_task(face.invoke(graph, ask())) for _ in range(2)]
    await planning.began.wait_async()
    assert flow._runner.slots["edge"].free == 0
    planning.release.open()
    await asyncio.gather(*runs)
    assert edge.max_concurrency_seen == 1
