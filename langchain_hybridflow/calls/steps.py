"""What a routed call asks of the outside world, one step at a time.

The logic of a call - route, reserve, call, settle, fall back - is written once, as generators
that do no IO: they yield the steps of this module and are sent the results. `drive` performs the
steps, with a sync and an async face.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk

from langchain_hybridflow.budget import Amounts, BudgetSnapshot, Lease, RunBudget
from langchain_hybridflow.calls.inner import TierModel
from langchain_hybridflow.calls.replies import Reading
from langchain_hybridflow.calls.tether import tether_here

__all__ = [
    "Call",
    "Commit",
    "IOStep",
    "Pause",
    "Release",
    "Reserve",
    "Script",
    "Show",
    "Snapshot",
    "Step",
]

T = TypeVar("T")


@dataclass(slots=True)
class Snapshot:
    """Read the live state of the budget, as it is for the subtask that is to be decided on."""

    run: RunBudget
    owner: str | None = None

    def perform(self) -> BudgetSnapshot:
        """Read it from the ledger."""
        return self.run.snapshot(self.owner)

    async def aperform(self) -> BudgetSnapshot:
        """Async twin of `perform`."""
        if not self.run.suspends:
            return self.perform()
        return await self.run.asnapshot(self.owner)


@dataclass(slots=True)
class Reserve:
    """Hold the worst case of a call; raises BudgetExceeded if it does not fit."""

    run: RunBudget
    lease_id: str
    amounts: Amounts

    def perform(self) -> Lease:
        """Hold it in the ledger."""
        return self.run.reserve(self.lease_id, self.amounts)

    async def aperform(self) -> Lease:
        """Async twin of `perform`; a cancelled one gives back what it may still be granted."""
        if not self.run.suspends:
            return self.perform()
        granted = asyncio.ensure_future(self.run.areserve(self.lease_id, self.amounts))
        try:
            return await asyncio.shield(granted)
        except asyncio.CancelledError:
            await asyncio.shield(self._give_back(granted))
            raise

    async def _give_back(self, granted: asyncio.Future[Lease]) -> None:
        with suppress(Exception):  # refused, or the store failed: there is nothing to give back
            await self.run.arelease(await granted)


@dataclass(slots=True)
class Commit:
    """Book what a call has cost, and whether it gave an answer."""

    run: RunBudget
    lease: Lease
    actual: Amounts
    answered: bool

    def perform(self) -> None:
        """Book it in the ledger."""
        self.run.commit(self.lease, self.actual, answered=self.answered)

    async def aperform(self) -> None:
        """Async twin of `perform`; goes through even if the caller is cancelled meanwhile."""
        if self.run.suspends:
            booked = self.run.acommit(self.lease, self.actual, answered=self.answered)
            await asyncio.shield(booked)
        else:
            self.perform()


@dataclass(slots=True)
class Release:
    """Give back what a call would have cost, because it cost nothing."""

    run: RunBudget
    lease: Lease

    def perform(self) -> None:
        """Give it back to the ledger."""
        self.run.release(self.lease)

    async def aperform(self) -> None:
        """Async twin of `perform`; goes through even if the caller is cancelled meanwhile."""
        if self.run.suspends:
            await asyncio.shield(self.run.arelease(self.lease))
        else:
            self.perform()


@dataclass(slots=True)
class Pause:
    """Wait before the next try."""

    seconds: float

    def perform(self) -> None:
        """Wait, blocking; no longer than there is somebody to wait for."""
        tether = tether_here()
        if tether is None:
            time.sleep(self.seconds)
        else:
            tether.pause(self.seconds)

    async def aperform(self) -> None:
        """Wait without blocking the event loop."""
        await asyncio.sleep(self.seconds)


@dataclass(slots=True)
class Call:
    """Call a model. The driver notes in `streamed` what had arrived when it failed.

    `begun` says whether a part of an answer was among it. Once that has been `shown`, no other
    model may answer. The time-outs are for the model: of a stream, the time that its reader takes
    is not counted; `run_left_s` is what the run has left, whoever takes it. `given_up` says that
    nobody waits any more for a call that cannot be stopped. A model that may ask for help instead
    of answering has a `reading`.
    """

    target: TierModel
    messages: list[BaseMessage]
    options: dict[str, Any]
    timeout_s: float | None = None
    first_token_timeout_s: float | None = None
    shown: bool = True
    streamed: list[ChatGenerationChunk] = field(default_factory=list)
    begun: bool = False
    given_up: bool = False
    run_left_s: float | None = None
    reading: Reading | None = None
    _passed_on: int = 0

    def take(self, chunk: ChatGenerationChunk) -> list[ChatGenerationChunk]:
        """Note a chunk that has arrived, and return those that the reader may have.

        Servers open a stream with empty chunks. Held back until a part of the answer is there,
        they do not stand in the way of another model.
        """
        self.streamed.append(chunk)
        self.begun = self.begun or _says_something(chunk)
        drafts = [] if self.reading is None else self.reading.take(chunk)
        return drafts + self.rest() if self.begun else []

    @property
    def is_decided(self) -> bool:
        """Whether no more is wanted of the stream: the model asks for help."""
        return self.reading is not None and self.reading.is_decided

    def restart(self) -> None:
        """Forget what has arrived: the model is called again."""
        self.streamed.clear()
        if self.reading is not None:
            self.reading.restart()

    def limit_s(self) -> float | None:
        """Return how long the stream may be waited for as things stand, in seconds altogether."""
        if self.begun or self.first_token_timeout_s is None:
            return self.timeout_s
        if self.timeout_s is None:
            return self.first_token_timeout_s
        return min(self.timeout_s, self.first_token_timeout_s)

    def rest(self) -> list[ChatGenerationChunk]:
        """Return what the reader may have and has not been given yet."""
        if not self.shown:
            return []
        rest = self.streamed[self._passed_on :]
        self._passed_on = len(self.streamed)
        return rest


@dataclass(slots=True)
class Show:
    """Give the reader of a stream what was held back; nobody else notices."""

    chunks: tuple[ChatGenerationChunk, ...]

    def perform(self) -> None:
        """Do nothing: there is no stream."""

    async def aperform(self) -> None:
        """Async twin of `perform`."""


class IOStep(Protocol):
    """Any other step: something to wait for, with a blocking and an awaiting face."""

    def perform(self) -> Any:
        """Do it, blocking."""
        ...

    async def aperform(self) -> Any:
        """Do it without blocking the event loop."""
        ...


def _says_something(chunk: ChatGenerationChunk) -> bool:
    message = chunk.message
    tool_calls = getattr(message, "tool_call_chunks", None)
    return bool(message.content or message.additional_kwargs or tool_calls)


Step: TypeAlias = Call | IOStep
Script: TypeAlias = Generator[Step, Any, T]
"""A call's logic: yields steps, is sent their results, returns `T`."""
