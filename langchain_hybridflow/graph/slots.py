"""Slots of a tier: how many of its calls run at once, and who is next."""

from __future__ import annotations

import asyncio
import heapq
import threading
from concurrent.futures import CancelledError, Future
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count

from langchain_hybridflow.calls.tether import RunAbandoned, tether_here
from langchain_hybridflow.errors import ConfigurationError, DeadlineExceeded

__all__ = ["TierSlots", "Turn"]


class TierSlots:
    """A number of slots that are given to the most urgent waiter first.

    An edge device often serves one request at a time; whoever has the longest way still to go
    should get it first, because everything behind it waits, too. Works across threads and event
    loops: all runs of one graph share the same device.

    Args:
        slots: Number of calls that may run at once.

    Raises:
        ConfigurationError: `slots` is less than 1.

    Example:
        >>> edge = TierSlots(1)
        >>> edge.turn(urgency=2.0).perform()
        >>> edge.free
        0
        >>> edge.leave()
        >>> edge.free
        1
    """

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ConfigurationError(f"A tier needs at least one slot, got {slots!r}.")
        self.slots = slots
        self._free = slots
        self._waiting: list[tuple[float, int, Future[None]]] = []
        self._arrival = count()
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """Number of slots that nobody holds."""
        return self._free

    def turn(self, *, urgency: float = 0.0, timeout_s: float | None = None) -> Turn:
        """Make the step that waits for a slot; whoever got one has to `leave()`.

        Args:
            urgency: The higher, the sooner; equals are served in order of arrival.
            timeout_s: Longest wait, in seconds.
        """
        return Turn(self, urgency, timeout_s)

    def leave(self) -> None:
        """Give a slot back, to the most urgent waiter if there is one."""
        granted = self._next_in_line()
        if granted is not None:
            granted.set_result(None)  # outside the lock: it wakes the waiter

    def _next_in_line(self) -> Future[None] | None:
        with self._lock:
            while self._waiting:
                granted = heapq.heappop(self._waiting)[2]
                if granted.set_running_or_notify_cancel():
                    return granted
            self._free += 1
            return None

    def queue(self, urgency: float) -> Future[None]:
        """Stand in line; the future is done when the slot is ours."""
        granted: Future[None] = Future()
        with self._lock:
            if self._free:
                self._free -= 1
                granted.set_result(None)
            else:
                heapq.heappush(self._waiting, (-urgency, next(self._arrival), granted))
        return granted

    def give_up(self, granted: Future[None]) -> None:
        """Step out of the line, also in the very moment in which the slot was granted."""
        if not granted.cancel():
            self.leave()


@dataclass(frozen=True, slots=True)
class Turn:
    """The step of waiting for a slot.

    Raises:
        DeadlineExceeded: When performed, if no slot became free in time.
        RunAbandoned: When performed, if whoever it is for went away meanwhile.
    """

    slots: TierSlots
    urgency: float
    timeout_s: float | None

    def perform(self) -> None:
        """Wait, blocking."""
        granted = self.slots.queue(self.urgency)
        tether = tether_here()
        try:
            with nullcontext() if tether is None else tether.waking(granted.cancel):
                granted.result(timeout=self.timeout_s)
        except CancelledError as gone:
            raise RunAbandoned from gone
        except BaseException as error:
            self.slots.give_up(granted)
            self._raise_late(error)
            raise

    async def aperform(self) -> None:
        """Wait without blocking the event loop."""
        granted = self.slots.queue(self.urgency)
        if granted.done():
            return
        try:
            # Not `wait_for`: before Python 3.12 it loses a cancellation that comes with the grant.
            async with asyncio.timeout(self.timeout_s):
                await asyncio.wrap_future(granted)
        except BaseException as error:
            self.slots.give_up(granted)
            self._raise_late(error)
            raise

    def _raise_late(self, error: BaseException) -> None:
        if isinstance(error, TimeoutError):
            raise DeadlineExceeded("Waiting for a slot", self.timeout_s or 0.0) from error
