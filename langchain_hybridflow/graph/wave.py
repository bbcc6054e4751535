"""The dataflow inside one superstep of LangGraph: a wave of subtasks that await one another.

LangGraph runs in supersteps, and a node behind an edge starts only when *every* node of the step
before has ended. So a wave sends all unfinished subtasks into one superstep, and each awaits the
promises of its dependencies there. The promises live in this process only: a subtask that finds no
wave - because it was resumed in another process - does nothing, and the next wave takes it up.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar

from langchain_hybridflow.budget import Budget, RunBudget
from langchain_hybridflow.calls.scoping import values_here
from langchain_hybridflow.calls.tether import tether_here
from langchain_hybridflow.graph.asking import RunQuestion
from langchain_hybridflow.graph.finals import Earmark
from langchain_hybridflow.routing import RouteDecision

__all__ = ["FinalHold", "Promise", "Wave", "WaveRegistry"]

T = TypeVar("T")


class Promise(Generic[T]):
    """A value that is set once and awaited by many, from any thread or event loop."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: Future[T] = Future()

    @property
    def kept(self) -> bool:
        """Whether the value is there."""
        return self._future.done()

    @property
    def value(self) -> T | None:
        """The value if it is there, else `None`."""
        return self._future.result() if self._future.done() else None

    def keep(self, value: T) -> None:
        """Set the value; the first one counts."""
        try:
            self._future.set_result(value)
        except InvalidStateError:
            return

    def perform(self) -> T:
        """Wait for the value, blocking."""
        return self._future.result()

    async def aperform(self) -> T:
        """Wait for the value; a waiter that is cancelled disturbs no other."""
        if not self._future.done():
            loop = asyncio.get_running_loop()
            woken = loop.create_future()
            self._future.add_done_callback(lambda _: _wake(loop, woken))
            await woken
        return self._future.result()


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    try:
        here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is loop:
        loop.call_soon(wake)
    elif not loop.is_closed():  # a closed loop has no waiters left
        loop.call_soon_threadsafe(wake)


class FinalHold:
    """What is to be held for the last subtask before any other one is paid for.

    It is a step of each member of a wave: the first one performs it, and the others wait for that.
    So nothing is held for a wave whose members never start: nobody would give it back.
    """

    __slots__ = ("_earmark", "_is_taken", "_lock", "_over")

    def __init__(self, earmark: Earmark) -> None:
        self._earmark = earmark
        self._lock = threading.Lock()
        self._is_taken = False
        self._over: Promise[None] = Promise()

    @property
    def subtask_id(self) -> str:
        """The last subtask."""
        return self._earmark.subtask_id

    def perform(self) -> None:
        """Hold it, or wait, blocking, until that was tried."""
        if not self._is_mine():
            return self._over.perform()
        try:
            self._earmark.perform()
        finally:
            self._over.keep(None)
        return None

    async def aperform(self) -> None:
        """Async twin of `perform`."""
        if not self._is_mine():
            return await self._over.aperform()
        try:
            await self._earmark.aperform()
        finally:
            self._over.keep(None)
        return None

    def let_go(self) -> None:
        """Let nobody wait for it any more."""
        self._over.keep(None)

    def _is_mine(self) -> bool:
        with self._lock:
            was_taken, self._is_taken = self._is_taken, True
        return not was_taken


class Wave:
    """What the subtasks of one superstep share.

    Attributes:
        id: Found in the packet of each member.
        run: The account of the run.
        members: Number of nodes that were sent; when all have left, the wave is over.
        planned: What a router has decided on the plan as a whole, by subtask id.
        final: What its members hold for the last subtask, if anything.
    """

    def __init__(self, run: RunBudget, *, members: int, slots: int = 0) -> None:
        self.id = uuid.uuid4().hex
        self.run = run
        self.members = members
        self.opened_at = time.monotonic()
        self.planned: Mapping[str, RouteDecision] = {}
        self.final: FinalHold | None = None
        self._results: dict[str, Promise[dict[str, Any] | None]] = {}
        self._slots: tuple[Promise[dict[str, Any] | None], ...] = tuple(
            Promise() for _ in range(slots)
        )
        self._assigned = 0
        self._assigned_ids: set[str] = set()
        self._broken = False
        self._lock = threading.Lock()

    def result(self, subtask_id: str) -> Promise[dict[str, Any] | None]:
        """The promised result of a subtask; `None` if this wave will not have it."""
        with self._lock:
            promise = self._results.setdefault(subtask_id, Promise())
        if self._broken:
            promise.keep(None)
        return promise

    @property
    def has_slots(self) -> bool:
        """Whether nodes were sent that wait for their work."""
        return bool(self._slots)

    def slot(self, index: int) -> Promise[dict[str, Any] | None]:
        """The promised work of a node that was sent before there was a plan; `None` for none."""
        return self._slots[index]

    def assign(self, work: dict[str, Any]) -> None:
        """Give the next free slot its work, in the order of calls."""
        self._slots[self._assigned].keep(work)
        self._assigned += 1
        self._assigned_ids.add(work["subtask"]["id"])

    def is_assigned(self, subtask_id: str) -> bool:
        """Whether a slot has this subtask."""
        return subtask_id in self._assigned_ids

    def close_slots(self) -> None:
        """Tell the slots that are left over that there is nothing for them to do."""
        for slot in self._slots[self._assigned :]:
            slot.keep(None)

    def break_off(self) -> None:
        """Tell everybody who waits, or will, that nothing more comes."""
        with self._lock:
            self._broken = True
            waited_for = [*self._slots, *self._results.values()]
        for promise in waited_for:
            promise.keep(None)
        if self.final is not None:
            self.final.let_go()


class WaveRegistry:
    """The open waves of one graph in this process, and the accounts of its runs.

    A run keeps one account, and one clock, over all its waves. A run that is interrupted to wait
    for a person is forgotten: its deadline starts again when it goes on.
    """

    _STALE_S = 3_600.0
    _SWEEP_AT = 64

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._waves: dict[str, Wave] = {}
        self._awaited: dict[str, int] = {}
        self._inside: dict[str, int] = {}
        self._runs: dict[str, tuple[RunBudget, float]] = {}
        self._lock = threading.Lock()
        self._clock = clock

    def __len__(self) -> int:
        return len(self._waves)

    def run(self, run_id: str, budget: Budget) -> RunBudget:
        """Find the account of a run, or open it; whom it is for is read from the graph's config.

        Raises:
            ConfigurationError: The config does not say whom it is for, and has to.
        """
        with self._lock:
            if run_id not in self._runs:
                if len(self._runs) >= self._SWEEP_AT:
                    self._sweep()
                ask = RunQuestion() if budget.on_exhausted == "ask" else None
                run = budget.start_run(run_id, scope_values=values_here(budget), ask=ask)
                self._runs[run_id] = (run, self._clock())
            return self._runs[run_id][0]

    def end_run(self, run_id: str) -> RunBudget | None:
        """Forget the account of a run that has ended, or is interrupted, and return it."""
        with self._lock:
            found = self._runs.pop(run_id, None)
        return None if found is None else found[0]

    def open(self, wave: Wave) -> str:
        """Take a wave in and return its id."""
        with self._lock:
            if len(self._waves) >= self._SWEEP_AT:
                self._sweep()
            self._waves[wave.id] = wave
            self._awaited[wave.id] = wave.members
            self._inside[wave.id] = 0
        return wave.id

    def get(self, wave_id: str) -> Wave | None:
        """Find an open wave; `None` if it is over or belongs to another process."""
        return self._waves.get(wave_id)

    def enter(self, wave_id: str) -> None:
        """Note that a member has begun: a wave stays while one is inside.

        More may come than were sent at first: an edited plan can be longer, and two runs can
        start from one checkpoint.
        """
        with self._lock:
            if wave_id in self._inside:
                self._awaited[wave_id] -= 1
                self._inside[wave_id] += 1

    def leave(self, wave_id: str) -> None:
        """Note that a member that had entered has ended; the last one closes the wave."""
        with self._lock:
            if wave_id not in self._inside:
                return
            self._inside[wave_id] -= 1
            if self._inside[wave_id] <= 0 and self._awaited[wave_id] <= 0:
                self._forget(wave_id)

    @contextmanager
    def inside(self, wave_id: str) -> Iterator[None]:
        """Be inside a wave, which is closed when its run's caller goes; `leave` is not included.

        Raises:
            RunAbandoned: The caller has gone.
        """
        self.enter(wave_id)
        tether = tether_here()
        if tether is None:
            yield
            return
        with tether.waking(partial(self.abandon, wave_id)):
            tether.check()
            yield

    def abandon(self, wave_id: str) -> None:
        """Close a wave whose run has failed or was cancelled: a resumed run gets a new one."""
        with self._lock:
            wave = self._waves.get(wave_id)
            self._forget(wave_id)
        if wave is not None:
            wave.break_off()

    def _sweep(self) -> None:
        """Drop what belongs to runs that were cancelled, and so never ended.

        A wave with members inside is at work, however old it is, and so is its run.
        """
        oldest = self._clock() - self._STALE_S
        idle = {key: wave for key, wave in self._waves.items() if not self._inside[key]}
        for wave_id in [key for key, wave in idle.items() if wave.opened_at < oldest]:
            self._forget(wave_id)
        busy = {wave.run.run_id for wave in self._waves.values()}
        for run_id, (_, opened_at) in list(self._runs.items()):
            if opened_at < oldest and run_id not in busy:
                del self._runs[run_id]

    def _forget(self, wave_id: str) -> None:
        self._waves.pop(wave_id, None)
        self._awaited.pop(wave_id, None)
        self._inside.pop(wave_id, None)
