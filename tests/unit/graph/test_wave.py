"""Waves and promises: nobody waits for what will not come, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from flowkit import (
    DIAMOND,
    ask,
    assert_at_rest,
    make_flow,
    plan_of,
    planning_worker,
    thread,
    worker,
)
from langgraph.checkpoint.memory import InMemorySaver

from langchain_hybridflow import Budget
from langchain_hybridflow.budget import Amounts, MemoryLedger
from langchain_hybridflow.errors import SubtaskError
from langchain_hybridflow.graph.finals import Earmark
from langchain_hybridflow.graph.wave import FinalHold, Promise, Wave, WaveRegistry
from langchain_hybridflow.plan import plan_to_xml
from langchain_hybridflow.testing import ManualClock

# LangGraph's own, for tasks that are cancelled while they wait for `max_concurrency`.
NEVER_BEGUN = "ignore:coroutine 'arun_with_retry' was never awaited:RuntimeWarning"


def open_wave(registry: WaveRegistry, *, members: int, slots: int = 0) -> Wave:
    wave = Wave(registry.run("run", Budget()), members=members, slots=slots)
    registry.open(wave)
    return wave


def test_promise_keeps_its_first_value():
    promise: Promise[int] = Promise()
    promise.keep(1)
    promise.keep(2)
    assert promise.perform() == 1


def test_promise_has_no_value_before_it_is_kept():
    promise: Promise[int] = Promise()
    assert (promise.kept, promise.value) == (False, None)


async def test_promise_is_awaited_across_threads():
    promise: Promise[int] = Promise()
    waiter = asyncio.create_task(promise.aperform())
    await asyncio.sleep(0)
    threading.Thread(target=promise.keep, args=(7,)).start()
    assert await asyncio.wait_for(waiter, 10) == 7


async def test_cancelled_waiter_disturbs_no_other():
    promise: Promise[int] = Promise()
    first, second = (asyncio.create_task(promise.aperform()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    promise.keep(7)
    assert await asyncio.wait_for(second, 10) == 7
    assert first.cancelled()


def test_promise_is_kept_though_the_loop_of_a_waiter_is_closed():
    promise: Promise[int] = Promise()

    async def give_up() -> None:
        waiter = asyncio.create_task(promise.aperform())
        await asyncio.sleep(0)
        waiter.cancel()

    asyncio.run(give_up())
    promise.keep(7)
    assert promise.value == 7


def test_registry_forgets_a_wave_when_its_last_member_leaves():
    registry = WaveRegistry()
    wave = open_wave(registry, members=2)
    registry.enter(wave.id)
    registry.leave(wave.id)
    assert registry.get(wave.id) is wave
    registry.enter(wave.id)
    registry.leave(wave.id)
    assert registry.get(wave.id) is None


def test_registry_keeps_a_wave_while_more_members_are_inside_than_were_sent():
    registry = WaveRegistry()
    wave = open_wave(registry, members=1)
    registry.enter(wave.id)
    registry.enter(wave.id)
    registry.leave(wave.id)
    assert registry.get(wave.id) is wave
    registry.leave(wave.id)
    assert registry.get(wave.id) is None


def test_registry_takes_no_notice_of_members_of_a_wave_it_does_not_know():
    registry = WaveRegistry()
    registry.enter("of another process")
    registry.leave("of another process")
    assert len(registry) == 0


def test_registry_keeps_the_account_of_a_run_until_it_ends():
    registry, budget = WaveRegistry(), Budget()
    account = registry.run("run", budget)
    assert registry.run("run", budget) is account
    registry.end_run("run")
    assert registry.run("run", budget) is not account


def test_registry_sweeps_what_cancelled_runs_left_behind():
    clock = ManualClock()
    registry = WaveRegistry(clock=clock)
    for index in range(64):
        registry.run(f"old {index}", Budget())
    clock.advance(3_601)
    registry.run("new", Budget())
    assert list(registry._runs) == ["new"]


def test_slots_are_given_work_in_order_and_the_rest_are_told_there_is_none():
    wave = Wave(Budget().start_run(), members=3, slots=3)
    wave.assign({"subtask": {"id": "a"}})
    wave.close_slots()
    assert wave.slot(0).value == {"subtask": {"id": "a"}}
    assert [wave.slot(index).kept for index in (1, 2)] == [True, True]
    assert wave.is_assigned("a")


def test_broken_off_wave_tells_all_who_wait_and_all_who_come_later():
    wave = Wave(Budget().start_run(), members=2, slots=1)
    waiting = wave.result("a")
    wave.break_off()
    assert waiting.kept
    assert waiting.value is None
    assert wave.slot(0).kept
    assert wave.result("b").kept


def test_abandoned_wave_is_found_no_more():
    registry = WaveRegistry()
    wave = open_wave(registry, members=2)
    registry.enter(wave.id)
    registry.abandon(wave.id)
    assert registry.get(wave.id) is None
    registry.leave(wave.id)
    assert len(registry) == 0


@pytest.mark.timeout(60)
async def test_wave_for_six_serves_an_edited_plan_of_twelve(face):
    """The wave that was opened before the edit has room for fewer members than now come."""
    middle = {f"m{index}": f"m{index - 1}" if index else "1" for index in range(10)}
    bigger = plan_of({"1": "", **middle, "end": "m9"})
    flow = make_flow(planning_worker(DIAMOND), planner="always")
    graph = flow.compile(InMemorySaver(), interrupt_after=["dispatch"])
    await face.invoke(graph, ask(), thread())
    edited = graph.update_state(
        thread(), {"plan": bigger.model_dump(mode="json")}, as_node="dispatch"
    )
    out = await face.invoke(graph, None, edited)
    assert out["report"]["complete"]
    assert len(out["results"]) == 12


@pytest.mark.timeout(60)
async def test_two_runs_from_one_checkpoint_share_its_wave_without_waiting_for_ever():
    flow = make_flow()
    graph = flow.compile(InMemorySaver(), plan=DIAMOND, interrupt_after=["dispatch"])
    await graph.ainvoke(ask(), thread())
    config = graph.get_state(thread()).config
    outs = await asyncio.gather(*(graph.ainvoke(None, config) for _ in range(2)))
    assert [out["answer"] for out in outs] == ["answer 4", "answer 4"]


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings(NEVER_BEGUN)
@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_run_that_broke_off_while_planning_is_resumed_in_a_new_wave(face, limit: int):
    """Slots that have been given their work once must not be given it again."""
    script: dict[str, Any] = {"plan": plan_to_xml(DIAMOND), "2": ValueError("not yet")}
    flow = make_flow(
        worker(script),
        planner="always",
        on_subtask_error="raise",
        model={"on_edge_error": "raise"},
    )
    graph = flow.compile(InMemorySaver())
    config = thread(max_concurrency=limit)
    with pytest.raises(SubtaskError):
        await face.invoke(graph, ask(), config)
    script["2"] = "mended"
    out = await face.invoke(graph, None, config)
    assert out["answer"] == "answer 4"
    assert_at_rest(flow)


def test_sweep_spares_waves_that_are_at_work_and_their_runs_however_old_they_are():
    clock = ManualClock()
    registry = WaveRegistry(clock=clock)
    budget = Budget()
    registry.run("working", budget)
    working = Wave(registry.run("working", budget), members=1)
    working.opened_at = clock()
    registry.open(working)
    registry.enter(working.id)
    account = registry.run("working", budget)
    clock.advance(10 * 3_600.0)
    for number in range(200):
        wave = Wave(registry.run(f"new-{number}", budget), members=1)
        wave.opened_at = clock()
        registry.open(wave)
    assert registry.get(working.id) is working
    assert registry.run("working", budget) is account


class GatedLedger(MemoryLedger):
    """Its async face reserves when the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def areserve(self, *args: Any, **kwargs: Any) -> Any:
        await self.gate.wait()
        return self.reserve(*args, **kwargs)


async def two_members_at_the_gate(budget: Budget) -> list[asyncio.Task[None]]:
    final = FinalHold(Earmark(budget.start_run(), "end", Amounts(cloud_calls=1)))
    members = [asyncio.create_task(final.aperform()) for _ in range(2)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(member.done() for member in members)
    return members


async def test_no_member_goes_on_before_the_money_for_the_last_one_is_held():
    ledger = GatedLedger()
    budget = Budget(max_cloud_calls=9, ledger=ledger)
    members = await two_members_at_the_gate(budget)
    ledger.gate.set()
    await asyncio.gather(*members)
    assert budget.snapshot()["cloud_calls"]["held"] == 1


async def test_members_go_on_when_the_one_that_was_to_hold_it_is_cancelled():
    budget = Budget(max_cloud_calls=9, ledger=GatedLedger())
    first, second = await two_members_at_the_gate(budget)
    first.cancel()
    await asyncio.wait_for(second, 5)
    assert budget.snapshot()["cloud_calls"]["held"] == 0
