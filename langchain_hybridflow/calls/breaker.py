"""Leave a tier alone that keeps failing: a circuit breaker for each tier.

The states and the counting are pybreaker's. It lets every caller through once its time is over and
reads the wall clock; here one call at a time finds out whether the tier is back, and the clock is
injected.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.errors import CircuitOpen, ConfigurationError
from langchain_hybridflow.routing import Tier

if TYPE_CHECKING:
    from pybreaker import CircuitBreaker

__all__ = ["Breaker", "Circuit", "Probe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """When a tier that fails is left alone, and for how long.

    A failure is an outage: no connection, a time-out of the tier or its client, a broken or
    unreadable answer, a server error, or a rate limit that outlasted the retries. A mistake in the
    request (any other 4xx) is an answer: the tier is there. What the budget, the policy, the
    deadline of a run, the time-out of a subtask or a cancellation ended says nothing about it.

    Args:
        fail_max: Outages in a row after which the tier is not asked any more.
        reset_timeout_s: Seconds until one call may try it again. If that one fails, too, the time
            starts anew; if it is answered, all calls may go there again.
        clock: Seconds, monotonic.

    Raises:
        ConfigurationError: A number is out of its range.

    Example:
        >>> Breaker(fail_max=3, reset_timeout_s=10)
        Breaker(fail_max=3, reset_timeout_s=10)
    """

    fail_max: int = 5
    reset_timeout_s: float = 30.0
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.fail_max) is not int or self.fail_max < 1:
            raise ConfigurationError(f"fail_max must be an integer >= 1, not {self.fail_max!r}.")
        if not isfinite(self.reset_timeout_s) or self.reset_timeout_s <= 0:
            raise ConfigurationError(
                f"reset_timeout_s must be finite and positive, not {self.reset_timeout_s!r}."
            )


class Probe:
    """Admission of the one call that finds out whether a tier is back."""

    __slots__ = ("since_s",)

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s


class Circuit:
    """The breaker of one tier at work; safe to share by threads and event loops.

    Example:
        >>> circuit = Circuit("cloud", Breaker(fail_max=1, reset_timeout_s=10))
        >>> circuit.settle(circuit.admit(), healthy=False)
        >>> circuit.state
        'open'
    """

    def __init__(self, tier: Tier, settings: Breaker) -> None:
        self.settings = settings
        self._tier = tier
        self._lock = threading.Lock()
        # pybreaker imports what it finds of Redis, so it is made when a tier fails for the first
        # time. It never gets to see an open circuit: when to try again is decided here.
        self._states: CircuitBreaker | None = None
        self._opened_at_s = 0.0
        self._probe: Probe | None = None

    @property
    def state(self) -> str:
        """Return "closed", "open" or "half-open"."""
        return "closed" if self._states is None else self._states.current_state

    def admit(self) -> Probe | None:
        """Let a call go to the tier. Whoever is admitted must `settle`, whatever happens.

        Raises:
            CircuitOpen: The tier is being left alone.
        """
        states = self._states
        if states is None:
            return None
        with self._lock:
            if states.current_state == "closed":
                return None
            now_s, pause_s = self.settings.clock(), self.settings.reset_timeout_s
            # A probe that never came back must not keep the tier closed for ever.
            since_s = self._opened_at_s if self._probe is None else self._probe.since_s
            is_due = self._probe is None and states.current_state == "half-open"
            if not is_due and now_s - since_s < pause_s:
                raise CircuitOpen(
                    self._tier,
                    failures=self.settings.fail_max,
                    retry_in_s=pause_s - (now_s - since_s),
                )
            states.half_open()
            self._probe = Probe(now_s)
            return self._probe

    def settle(self, admission: Probe | None, *, healthy: bool | None) -> None:
        """Note how an admitted call ended.

        Args:
            admission: What `admit` returned.
            healthy: Whether the tier answered; `None` if the end of the call says nothing of it.
        """
        if healthy is not False and self._states is None:
            return
        with self._lock:
            if self._states is None:
                self._states = _library(self.settings)
            is_probe = admission is not None and admission is self._probe
            if is_probe:
                self._probe = None
            elif self._states.current_state != "closed":
                return  # it began before the circuit opened: the probe knows better
            if healthy is None:
                return
            with suppress(_Outage):
                self._states.call(_nothing if healthy else _fail)
            if self._states.current_state == "open":
                self._opened_at_s = self.settings.clock()


class _Outage(Exception):
    """Stands for any outage, for the library to count."""


def _nothing() -> None:
    """Succeed."""


def _fail() -> None:
    raise _Outage


def _library(settings: Breaker) -> Any:
    from pybreaker import CircuitBreaker

    # Its own error would stand for the one that opened the circuit; and its own time-out is never
    # asked, see `Circuit`.
    return CircuitBreaker(
        fail_max=settings.fail_max, reset_timeout=0, throw_new_error_on_trip=False
    )
