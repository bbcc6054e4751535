"""Nothing new is bought for a caller who has gone, and nobody waits for what is under way."""

from __future__ import annotations

import _thread
import copy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypedDict

import pytest
from flowkit import (
    DIAMOND,
    PATIENCE_S,
    Gate,
    Held,
    ask,
    asked,
    assert_at_rest,
    make_flow,
    planning_worker,
    thread,
    wait_for_left_runs,
    wide_plan,
    worker,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from langchain_hybridflow import Budget, Price
from langchain_hybridflow.errors import SubtaskError
from langchain_hybridflow.routing import AlwaysCloud

WIDE = wide_plan(4)
PRICES = {"cloud": Price(1, 2)}


class Crowd:
    """Two calls that are under way, in a plan whose other subtasks wait for a slot or for them."""

    def __init__(self, **fields: Any) -> None:
        self.held = Held("held")
        self.there = Gate()
        self._count = 0
        self._lock = threading.Lock()
        self.model = worker({f"m{key}": self._come for key in range(4)}, model_name="cloud")
        self.flow = paid_flow(self.model, cloud_slots=2, **fields)

    def _come(self, _: Any) -> Held:
        with self._lock:
            self._count += 1
            if self._count == 2:
                self.there.open()
        return self.held

    def read(self, graph: Any, mode: Any = "custom") -> Generator[Any]:
        """Read a stream until both calls are under way."""
        stream = graph.stream(ask(), stream_mode=mode, subgraphs=True)
        begun = (event for event in stream if "'started'" in str(event))
        for _ in range(3):
            next(begun)
        self.there.wait()
        return stream

    def assert_nothing_was_begun(self) -> None:
        """The two calls end and are paid for, and there were no others."""
        assert self.model.running == 2  # nobody waited for them
        self.held.release.open()
        wait_for_left_runs()
        assert len(asked(self.model)) == 3
        state = self.flow.model.budget.snapshot()
        assert (state["cloud_calls"]["spent"], state["cloud_calls"]["held"]) == (3, 0)
        assert state["usd"]["held"] == 0
        assert_at_rest(self.flow, runs=1)


def paid_flow(cloud: Any, **fields: Any) -> Any:
    budget = Budget(limit_usd=1, max_cloud_calls=10_000, prices=PRICES)
    return make_flow(cloud=cloud, router=AlwaysCloud(), budget=budget, **fields)


def waking(main: int) -> None:
    """Ctrl-C as it mostly comes: the signal ends the main thread's sleep."""
    signal.pthread_kill(main, signal.SIGINT)


def not_waking(main: int) -> None:
    """Ctrl-C that came as the main thread fell asleep, or to another thread: it sleeps on."""
    while sys._current_frames()[main].f_code is not threading.Condition.wait.__code__:
        time.sleep(0.001)  # until it is asleep
    _thread.interrupt_main()


@contextmanager
def ctrl_c_when(gate: Gate, strike: Callable[[int], None] = waking) -> Iterator[None]:
    """Interrupt the main thread, as Ctrl-C does, as soon as the gate opens."""
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        gate.wait()
        strike(main)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    try:
        yield
    finally:
        watcher.join(PATIENCE_S)


def in_main_thread(work: Callable[[], None]) -> None:
    work()


def in_other_thread(work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(PATIENCE_S)


@pytest.mark.parametrize("where", [in_main_thread, in_other_thread])
@pytest.mark.parametrize("mode", ["custom", ["messages", "updates", "custom"]])
def test_stream_begins_no_call_when_it_was_left(where: Any, mode: Any):
    crowd = Crowd()

    def read() -> None:
        crowd.read(crowd.flow.compile(plan=WIDE), mode).close()

    where(read)
    crowd.assert_nothing_was_begun()


@pytest.mark.parametrize("where", [in_main_thread, in_other_thread])
def test_stream_begins_no_call_when_it_was_left_before_the_first(where: Any):
    crowd = Crowd(reserve_final=True)

    def read() -> None:
        stream = crowd.flow.compile(plan=WIDE).stream(ask(), stream_mode="updates")
        assert "dispatch" in next(stream)
        stream.close()

    where(read)
    wait_for_left_runs()
    assert asked(crowd.model) == []
    assert_at_rest(crowd.flow, runs=1)


def test_stream_begins_no_call_when_nobody_holds_it_any_more():
    crowd = Crowd()
    crowd.read(crowd.flow.compile(plan=WIDE))
    crowd.assert_nothing_was_begun()


def test_invoke_returns_at_once_when_interrupted():
    crowd = Crowd()
    with pytest.raises(KeyboardInterrupt), ctrl_c_when(crowd.there):
        crowd.flow.compile(plan=WIDE).invoke(ask())
    crowd.assert_nothing_was_begun()


def test_stream_is_left_at_once_when_ctrl_c_does_not_wake_its_reader():
    crowd, reads_on = Crowd(), Gate()
    stream = crowd.flow.compile(plan=WIDE).stream(ask(), stream_mode="updates")
    assert [*next(stream), *next(stream)] == ["dispatch", "explain_1"]
    crowd.there.wait()
    with ctrl_c_when(reads_on, not_waking):
        reads_on.open()
        with pytest.raises(KeyboardInterrupt):
            next(stream)  # nothing more comes until a call ends
    crowd.assert_nothing_was_begun()


def test_graph_in_a_node_returns_at_once_when_interrupted():
    class Outer(TypedDict, total=False):
        messages: list[Any]

    crowd = Crowd()
    outer = StateGraph(Outer)
    outer.add_node("inner", crowd.flow.compile(plan=WIDE))
    outer.add_edge(START, "inner")
    outer.add_edge("inner", END)
    with pytest.raises(KeyboardInterrupt), ctrl_c_when(crowd.there):
        outer.compile().invoke(ask())
    crowd.assert_nothing_was_begun()


def test_planning_is_the_last_call_when_interrupted_meanwhile():
    planning = Held("<Plan></Plan>")
    model = planning_worker(DIAMOND, {"plan": planning})
    flow = make_flow(model, planner="always")
    with pytest.raises(KeyboardInterrupt), ctrl_c_when(planning.began):
        flow.compile().invoke(ask())
    planning.release.open()
    wait_for_left_runs()
    assert asked(model) == ["plan"]
    assert_at_rest(flow, runs=1)


def test_run_is_resumed_and_pays_nothing_twice_when_interrupted():
    crowd = Crowd()
    graph = crowd.flow.compile(InMemorySaver(), plan=WIDE)
    with pytest.raises(KeyboardInterrupt), ctrl_c_when(crowd.there):
        graph.invoke(ask(), thread())
    crowd.assert_nothing_was_begun()
    out = graph.invoke(None, thread())
    assert out["report"]["complete"]
    assert sorted(asked(crowd.model)) == ["1", "end", "m0", "m1", "m2", "m3"]
    assert crowd.flow.model.budget.snapshot()["cloud_calls"]["spent"] == 6
    assert_at_rest(crowd.flow)


@pytest.mark.parametrize("kind", ["compiled", "planned"])
@pytest.mark.parametrize("slots", [1, 64])
def test_run_left_after_any_event_is_resumed_in_the_same_process(kind: str, slots: int):
    edge, cloud = planning_worker(WIDE), worker(model_name="cloud")
    flow = paid_flow(
        cloud, edge=edge, planner="always", cloud_slots=slots, edge_slots=slots, reserve_final=True
    )
    graph = flow.compile(InMemorySaver(), plan=WIDE if kind == "compiled" else None)
    left = 0
    for events in range(1, 100):
        config, before = thread(f"t{events}"), len(asked(cloud))
        stream = graph.stream(ask(), config, stream_mode=["custom", "updates"], subgraphs=True)
        seen = sum(1 for _, _ in zip(range(events), stream, strict=False))
        stream.close()
        wait_for_left_runs()
        assert flow.model.budget.snapshot()["usd"]["held"] == 0, f"left after {events} events"
        if seen < events:
            break
        state = graph.get_state(config)
        out = graph.invoke(None, config) if state.next else state.values
        assert out["report"]["complete"], f"left after {events} events"
        calls = ["1", "end", "m0", "m1", "m2", "m3"]
        assert sorted(asked(cloud)[before:]) == calls, f"left after {events} events"
        left += 1
    assert left > 10
    assert_at_rest(flow, waves=left, runs=left)


def test_run_that_was_left_disturbs_no_other():
    crowd = Crowd()
    graph = crowd.flow.compile(plan=WIDE)
    with ThreadPoolExecutor(1) as pool:
        stream = crowd.read(graph)
        other = pool.submit(graph.invoke, ask())
        stream.close()
        assert crowd.model.running == 2
        crowd.held.release.open()
        assert other.result(PATIENCE_S)["report"]["complete"]
    wait_for_left_runs()
    assert len(asked(crowd.model)) == 3 + 6
    assert_at_rest(crowd.flow, runs=1)


async def test_async_run_is_not_disturbed_by_a_sync_one_that_was_left():
    crowd = Crowd()
    graph = crowd.flow.compile(plan=WIDE)
    crowd.read(graph).close()
    crowd.held.release.open()
    assert (await graph.ainvoke(ask()))["report"]["complete"]


class Busy(Exception):
    status_code = 429

    def __init__(self, gate: Gate) -> None:
        super().__init__("not now")
        self._gate = gate

    @property
    def response(self) -> Any:
        """What is read to find out how long to wait: from here on the call is paused."""
        self._gate.open()
        return type("Response", (), {"headers": {"retry-after": "8"}})


def test_refused_call_is_not_repeated_when_its_run_was_left():
    paused = Gate()
    model = worker({"1": Busy(paused)}, model_name="cloud")
    flow = paid_flow(model)
    with pytest.raises(KeyboardInterrupt), ctrl_c_when(paused):
        flow.compile(plan=DIAMOND).invoke(ask())
    wait_for_left_runs()
    assert asked(model) == ["1"]
    assert flow.model.budget.snapshot()["usd"]["spent"] == 0
    assert_at_rest(flow, runs=1)


def test_stream_that_was_never_begun_does_nothing_when_closed():
    flow = make_flow()
    flow.compile(plan=DIAMOND).stream(ask()).close()
    assert_at_rest(flow)


def test_traceback_leads_to_the_call_when_a_run_fails():
    def fail(_: Any) -> Any:
        raise ValueError("broken")

    flow = make_flow(worker({"2": fail}), worker({"2": fail}), on_subtask_error="raise")
    with pytest.raises(SubtaskError) as caught:
        flow.compile(plan=DIAMOND).invoke(ask())
    cause = caught.value.__cause__
    assert cause is not None
    frames = [frame.name for frame in traceback.extract_tb(cause.__traceback__)]
    assert frames[-1] == "fail"


@pytest.mark.parametrize("change", [copy.copy, lambda graph: graph.with_config(tags=["x"])])
def test_copies_of_a_graph_can_be_left_like_it(change: Any):
    crowd = Crowd()
    graph = change(crowd.flow.compile(plan=WIDE))
    with pytest.raises(KeyboardInterrupt), ctrl_c_when(crowd.there):
        graph.invoke(ask())
    crowd.assert_nothing_was_begun()
