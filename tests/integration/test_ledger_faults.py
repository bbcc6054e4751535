"""What goes wrong around a whole routed call: nothing is lost, and no limit is passed.

The stores' own tests cut off single calls of a ledger. Here it is `RoutedChatModel` and
`HybridFlowGraph` whose budget the store takes care of. A unit is a cloud call. It is lost if it was
made and is in no counter after all leases have ended.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from langchain_hybridflow import Budget, HybridFlowGraph, Plan, RoutedChatModel, Subtask
from langchain_hybridflow.budget import (
    NOTHING,
    Account,
    AccountState,
    Amounts,
    FailOpenLedger,
    Lease,
    Ledger,
    Limits,
)
from langchain_hybridflow.errors import LedgerUnavailable
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import ScriptedChatModel
from tests.integration.cutting_proxy import CuttingProxy
from tests.integration.fault_report import Found, record
from tests.integration.fault_stores import (
    FaultStore,
    fresh_ledger,
    fresh_namespace,
    opened_store,
)

WORKER = Path(__file__).with_name("ledger_worker.py")
ONE = Amounts(cloud_calls=1)
TTL_S = 60.0
TIMEOUT_S = 0.5
BUDGET = Account("budget/budget", "budget")


@pytest.fixture(scope="module", params=["sqlite", "redis", "postgres"])
def store(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    require: Callable[[str], None],
) -> Iterator[FaultStore]:
    folder = tmp_path_factory.mktemp(request.param)
    with opened_store(request.param, folder, require) as opened:
        yield opened


def routed(ledger: Ledger, *, limit: int, cloud: ScriptedChatModel, **options: Any) -> Any:
    return RoutedChatModel(
        edge=ScriptedChatModel(responses=["edge"]),
        cloud=cloud,
        router=AlwaysCloud(),
        budget=Budget(max_cloud_calls=limit, ledger=ledger, lease_ttl_s=TTL_S, **options),
    )


def cloud_model(*, latency_s: float = 0.0) -> ScriptedChatModel:
    return ScriptedChatModel(responses=["one two three"], latency_s=latency_s)


def after_all(store: FaultStore, namespace: str) -> AccountState:
    """The budget's counters, when all leases have ended."""
    now = fresh_ledger(store, namespace=namespace)
    later = fresh_ledger(store, namespace=namespace, clock=lambda: now.now() + TTL_S + 1)
    later.expire()
    assert later.reconcile().differences == ()
    state = later.snapshot([BUDGET])[0]
    assert state.held == NOTHING
    now.close()
    later.close()
    return state


def note(
    fault: str, store: FaultStore, state: AccountState, *, tried: int, made: int, limit: int
) -> None:
    used = state.used.cloud_calls
    record(
        Found(
            fault,
            store.name,
            tried,
            lost=max(0, made - used),
            overshoot=max(0, used - state.overdraft.cloud_calls - limit),
            charged=max(0, used - made),
        )
    )


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


class Callers:
    """Threads that ask until they are stopped, and count what they hear."""

    def __init__(self, model: Any, *, threads: int) -> None:
        self.answers: list[str] = []
        self.failures: list[BaseException] = []
        self._model = model
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)
            assert not thread.is_alive()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(self._model.invoke("?").text)
            except LedgerUnavailable as error:
                self.failures.append(error)


def test_nothing_is_lost_when_the_store_is_killed_while_models_are_asked(
    store: FaultStore,
) -> None:
    """It fails closed: without a store, no call is made."""
    namespace, limit = fresh_namespace(), 150
    ledger = fresh_ledger(store, namespace=namespace, timeout_s=TIMEOUT_S)
    cloud = cloud_model(latency_s=0.005)
    callers = Callers(routed(ledger, limit=limit, cloud=cloud), threads=4)
    for _ in range(3):
        heard = len(callers.answers)
        wait_until(lambda heard=heard: len(callers.answers) > heard + 20)
        store.down()
        failed = len(callers.failures)
        wait_until(lambda failed=failed: len(callers.failures) > failed + 4)
        made = len(cloud.calls)
        failed = len(callers.failures)
        wait_until(lambda failed=failed: len(callers.failures) > failed + 4)
        assert len(cloud.calls) == made
        store.up()
    wait_until(lambda: callers.answers[-20:] == ["edge"] * 20)
    callers.stop()
    ledger.close()
    assert set(callers.answers) == {"one two three", "edge"}
    state = after_all(store, namespace)
    assert state.used.cloud_calls == limit
    note(
        "store killed and started again under 4 threads that ask",
        store,
        state,
        tried=len(callers.answers) + len(callers.failures),
        made=len(cloud.calls),
        limit=limit,
    )


PLAN = Plan(
    subtasks=[
        Subtask(id="1", task="What is given?", role="explain"),
        Subtask(id="2", task="First half", role="analyze", depends_on=["1"]),
        Subtask(id="3", task="Second half", role="analyze", depends_on=["2"]),
        Subtask(id="4", task="All of it", role="generate", depends_on=["2", "3"]),
    ]
)


def test_graph_makes_no_call_when_its_store_is_killed_in_mid_run(store: FaultStore) -> None:
    """The run ends with what it has, or with the error; a new run goes on."""
    namespace, limit = fresh_namespace(), 50
    ledger = fresh_ledger(store, namespace=namespace, timeout_s=TIMEOUT_S)

    def die(messages: list[Any]) -> str:
        if len(cloud.calls) == 2:
            store.down()
        return "done"

    cloud = ScriptedChatModel(responses=[die])
    graph = HybridFlowGraph(routed(ledger, limit=limit, cloud=cloud)).compile(plan=PLAN)
    question = {"messages": [("user", "How many?")]}
    with suppress(LedgerUnavailable):
        assert not graph.invoke(question)["answer"]
    assert len(cloud.calls) == 2
    store.up()
    assert graph.invoke(question)["answer"] == "done"
    made = len(cloud.calls)
    assert made == 2 + len(PLAN.subtasks)
    ledger.close()
    state = after_all(store, namespace)
    fault = "store killed in the middle of a graph's run"
    note(fault, store, state, tried=made, made=made, limit=limit)


def test_calls_go_on_within_the_cap_when_the_store_is_down(store: FaultStore) -> None:
    """And the store hears of them when it is back."""
    namespace, limit, cap = fresh_namespace(), 100, 5
    ledger = FailOpenLedger(
        fresh_ledger(store, namespace=namespace, timeout_s=TIMEOUT_S),
        Limits(cloud_calls=cap),
        retry_s=0.2,
    )
    cloud = cloud_model()
    model = routed(ledger, limit=limit, cloud=cloud)
    before = [model.invoke("?").text for _ in range(10)]
    store.down()
    without = [model.invoke("?").text for _ in range(cap + 3)]
    store.up()
    assert before.count("one two three") == 10
    assert (without.count("one two three"), without.count("edge")) == (cap, 3)
    wait_until(lambda: model.invoke("?").text == "one two three")
    made = len(cloud.calls)
    ledger.close()
    state = after_all(store, namespace)
    assert state.used.cloud_calls == made
    assert state.overdraft.cloud_calls == cap
    note(
        f"store down, fail_open with a cap of {cap} calls",
        store,
        state,
        tried=made,
        made=made,
        limit=limit,
    )


@pytest.mark.parametrize("store", ["redis", "postgres"], indirect=True)  # a file has no line
def test_nothing_is_lost_when_the_line_is_cut_in_every_step_of_a_call(store: FaultStore) -> None:
    """Before a command, inside of it, or in the place of its reply: it is sent once more."""
    namespace, limit, cuts = fresh_namespace(), 1_000, 0
    cloud = cloud_model()
    with CuttingProxy(store.port) as proxy:
        ledger = fresh_ledger(store, port=proxy.port, namespace=namespace, timeout_s=10 * TIMEOUT_S)
        model = routed(ledger, limit=limit, cloud=cloud)
        model.invoke("?")
        for when in ("before", "inside", "after"):
            for marker in (b"reserve", b"commit", b"settle", b""):
                for _ in range(3):
                    proxy.cut(when, marker=marker)
                    assert model.invoke("?").text == "one two three"
        cuts = proxy.cuts_made
        ledger.close()
    made = len(cloud.calls)
    state = after_all(store, namespace)
    assert state.used.cloud_calls == made
    assert cuts >= 27
    fault = "line cut by a proxy before, inside and after a command"
    note(fault, store, state, tried=cuts, made=made, limit=limit)


async def settled(ledger: Ledger, *, held: int = 0) -> AccountState:
    """The counters, when nothing more is held: settlements go on after a cancellation."""
    end = time.monotonic() + 60
    while True:
        state = (await ledger.asnapshot([BUDGET]))[0]
        if state.held.cloud_calls == held:
            return state
        assert time.monotonic() < end
        await asyncio.sleep(0.002)


class JumpingClock:
    """A clock that somebody sets while it is read."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


def test_nothing_is_lost_when_the_clock_jumps(store: FaultStore) -> None:
    """To and fro by up to half an hour: leases expire early, and their costs come late."""
    namespace, limit, clock = fresh_namespace(), 60, JumpingClock()
    ledger = fresh_ledger(store, namespace=namespace, clock=clock, timeout_s=20)
    account = Account(BUDGET.key, "budget", Limits(cloud_calls=limit))
    granted: list[str] = []
    worst: list[int] = []

    def buy(worker: int) -> None:
        for turn in range(40):
            lease_id = f"{worker}/{turn}"
            answer = ledger.reserve(lease_id, ONE, accounts=[account], ttl_s=TTL_S)
            if isinstance(answer, Lease):
                granted.append(lease_id)
                ledger.commit(lease_id, ONE)
            state = ledger.snapshot([account])[0]
            worst.append((state.used + state.held).excess_over(state.overdraft).cloud_calls)

    threads = [threading.Thread(target=buy, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    jumps, random_ = 0, random.Random(0)
    while any(thread.is_alive() for thread in threads):
        clock.ahead_s = random_.uniform(-1_800, 1_800)
        jumps += 1
        time.sleep(0.005)
    for thread in threads:
        thread.join()
    clock.ahead_s = 1_800.0
    ledger.expire()
    state = ledger.snapshot([BUDGET])[0]
    ledger.close()
    assert state.held == NOTHING
    assert max(worst) <= limit
    assert len(granted) == limit
    note("clock set to and fro", store, state, tried=jumps, made=len(granted), limit=limit)


def test_nothing_is_lost_when_streams_are_abandoned(store: FaultStore) -> None:
    """By a reader who drops the iterator, closes it, or keeps it for ever."""
    namespace, limit = fresh_namespace(), 100
    ledger = fresh_ledger(store, namespace=namespace, timeout_s=10)
    cloud = cloud_model()
    model = routed(ledger, limit=limit, cloud=cloud)

    def begun() -> Generator[Any]:
        stream = model.stream("?")
        next(stream)
        return stream  # type: ignore[no-any-return]

    for _ in range(5):
        dropped = begun()
        del dropped
        gc.collect()
        begun().close()
    assert ledger.snapshot([BUDGET])[0].held == NOTHING
    kept = [begun() for _ in range(5)]
    assert ledger.snapshot([BUDGET])[0].held.cloud_calls == 5

    async def leave() -> None:
        for _ in range(5):
            async for _chunk in model.astream("?"):
                break
            await settled(ledger, held=5)
        await ledger.aclose()

    asyncio.run(leave())
    state = after_all(store, namespace)
    for stream in kept:  # their costs come late
        stream.close()
    ledger.close()
    made = len(cloud.calls)
    assert made == 20
    assert state.used.cloud_calls == made
    note("stream abandoned by its reader", store, state, tried=made, made=made, limit=limit)


class Cutter:
    """Cancels a call the n-th time that anything waits for it, in whatever task that is."""

    def __init__(self) -> None:
        self.waits = 0
        self._at = 0
        self._call: asyncio.Task[Any] | None = None

    async def cut(self, work: Coroutine[Any, Any, Any], at: int) -> asyncio.Task[Any]:
        """Run it to its end, cancelled at this wait if there are as many."""
        self.waits, self._at = 0, at
        loop = asyncio.get_running_loop()
        loop.set_task_factory(self._task)
        self._call = loop.create_task(work)
        await asyncio.wait([self._call])
        loop.set_task_factory(None)
        return self._call

    def _task(
        self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(_Counted(work, self), loop=loop, **options)

    def suspended(self) -> None:
        """Something is about to wait."""
        self.waits += 1
        if self.waits == self._at and self._call is not None:
            self._call.cancel()


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine that says each time that it waits."""

    def __init__(self, work: Coroutine[Any, Any, Any], cutter: Cutter) -> None:
        self._work = work
        self._cutter = cutter

    def send(self, value: Any) -> Any:
        awaited = self._work.send(value)
        self._cutter.suspended()
        return awaited

    def throw(self, *error: Any) -> Any:
        awaited = self._work.throw(*error)
        self._cutter.suspended()
        return awaited

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()


def test_nothing_is_lost_when_a_call_is_cancelled_at_every_await(store: FaultStore) -> None:
    """One call for each time that a call waits, in any of its tasks, cancelled just there."""
    namespace, limit = fresh_namespace(), 1_000
    cloud = cloud_model(latency_s=0.001)

    async def cut_all() -> int:
        ledger = fresh_ledger(store, namespace=namespace, timeout_s=10)
        model, cutter = routed(ledger, limit=limit, cloud=cloud), Cutter()
        await model.ainvoke("?")
        at, cancelled = 0, 0
        while True:
            at += 1
            call = await cutter.cut(model.ainvoke("?"), at)
            state = await settled(ledger)
            assert state.used.cloud_calls >= len(cloud.calls), at
            if cutter.waits < at:
                assert call.result().text == "one two three"
                await ledger.aclose()
                return cancelled
            cancelled += call.cancelled()

    cancelled = asyncio.run(cut_all())
    assert cancelled >= 5
    state = after_all(store, namespace)
    made = len(cloud.calls)
    fault = "call cancelled at each of its awaits"
    note(fault, store, state, tried=cancelled, made=made, limit=limit)


def test_nothing_is_lost_when_commits_come_late(store: FaultStore) -> None:
    """The lease has expired and was charged; what it cost beyond that is overdraft."""
    namespace, limit = fresh_namespace(), 50
    ledger = fresh_ledger(store, namespace=namespace, timeout_s=10)
    later = fresh_ledger(store, namespace=namespace, clock=lambda: ledger.now() + TTL_S + 1)
    account = Account(BUDGET.key, "budget", Limits(cloud_calls=limit))
    for turn in range(limit):
        assert isinstance(ledger.reserve(str(turn), ONE, accounts=[account], ttl_s=TTL_S), Lease)
    assert len(later.expire()) == limit
    for turn in range(limit):
        assert later.commit(str(turn), ONE + Amounts(cloud_tokens=7)) is False
    state = later.snapshot([BUDGET])[0]
    assert (state.used.cloud_tokens, state.overdraft.cloud_tokens) == (7 * limit, 7 * limit)
    ledger.close()
    later.close()
    note("commit after its lease expired", store, state, tried=limit, made=limit, limit=limit)


def _start(store: FaultStore, namespace: str, **job: Any) -> subprocess.Popen[str]:
    options = {"namespace": namespace, "timeout_s": 30}
    command = [sys.executable, str(WORKER), json.dumps(job), store.url(), json.dumps(options)]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _team(store: FaultStore, namespace: str, *, later_s: float = 0.0) -> AccountState:
    now = fresh_ledger(store, namespace=namespace)
    ledger = fresh_ledger(store, namespace=namespace, clock=lambda: now.now() + later_s)
    ledger.expire()
    assert ledger.reconcile().differences == ()
    state = ledger.snapshot([Account("team", "team")])[0]
    now.close()
    ledger.close()
    return state


def test_limit_is_met_exactly_when_8_processes_make_200_calls_each(store: FaultStore) -> None:
    """No unit more, no unit less."""
    namespace, limit = fresh_namespace(), 1_000
    jobs = [
        _start(store, namespace, do="spend", worker=f"w{n}", calls=200, limit=limit)
        for n in range(8)
    ]
    granted = 0
    for job in jobs:
        out, _ = job.communicate(timeout=110)
        assert job.returncode == 0
        granted += json.loads(out)["granted"]
    state = _team(store, namespace)
    assert (granted, state.held) == (limit, NOTHING)
    fault = "8 processes x 200 calls on one budget of 1,000"
    note(fault, store, state, tried=1_600, made=granted, limit=limit)


def test_leases_are_charged_when_8_processes_are_killed_before_they_commit(
    store: FaultStore,
) -> None:
    """Nobody knows whether their calls were made, so they count as made."""
    namespace, limit = fresh_namespace(), 8
    jobs = [
        _start(store, namespace, do="hold", worker=f"w{n}", ttl_s=30, limit=limit) for n in range(8)
    ]
    for job in jobs:
        assert job.stdout is not None
        assert json.loads(job.stdout.readline()) == "held"
        job.send_signal(signal.SIGKILL)
        job.wait()
        job.stdout.close()
    state = _team(store, namespace, later_s=31.0)
    assert (state.used.cloud_calls, state.held) == (8, NOTHING)
    fault = "SIGKILL between reserve and commit"
    note(fault, store, state, tried=8, made=8, limit=limit)
