"""How many calls are still to come: the volume of traffic and its daily rhythm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import Final

__all__ = ["HOURS", "MEMORIES", "Demand", "Level", "hours_of_day"]

HOURS: Final = 24
_HOUR_S: Final = 3_600.0
_SLOT_MEMORY_H: Final = 5.0  # an hour of the day is remembered for about five of its days
_SLOT_PRIOR_H: Final = 0.1  # how much of an hour must be seen before it counts for itself
_LEAN_CALLS: Final = 20.0
_REACH: Final = 3.0  # a level tells of three times as long as it remembers
_CAUTION: Final = 0.5  # between the mean hour (0) and the busiest (1), for an hour not seen
_STEADY: Final = (1.0,) * HOURS
_NO_SLOTS: Final = (0.0,) * HOURS

MEMORIES: Final = (1.0, 1 / 4, 1 / 16, 1 / 64)
"""The memories of the levels, as shares of the longest one."""


def hours_of_day(start_s: float, end_s: float) -> tuple[float, ...]:
    """How many hours of a stretch of time fall on each hour of the day (UTC).

    Args:
        start_s: Begin, in epoch seconds.
        end_s: End, in epoch seconds; not before the begin.

    Example:
        >>> hours = hours_of_day(0.5 * 3600, 26.0 * 3600)
        >>> hours[0], hours[1], hours[2]
        (1.5, 2.0, 1.0)
    """
    start_h, end_h = start_s / _HOUR_S, end_s / _HOUR_S
    return tuple(_slot_until(end_h, h) - _slot_until(start_h, h) for h in range(HOURS))


def _slot_until(hour: float, slot: int) -> float:
    """Hours of one slot of the day between the epoch and a moment; closed form, for any span."""
    days, of_day = divmod(hour, HOURS)
    return days + min(max(of_day - slot, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Level:
    """How much traffic there is, over one memory: calls per hour, weighted by the rhythm.

    Args:
        calls: Calls that came, faded.
        hours: Hours that they came in, weighted by the rhythm, and faded.
    """

    calls: float = 0.0
    hours: float = 0.0

    def after(self, calls: float, hours: float, *, memory_h: float) -> Level:
        """Return the level after so many calls in so many weighted hours."""
        fade = exp(-hours / memory_h)
        return Level(self.calls * fade + calls, self.hours * fade + hours)

    def per_hour(self, longer: float | None) -> float:
        """Calls in an hour of mean demand; 0 while nothing was observed.

        Args:
            longer: The rate of the next longer memory. A memory with few calls in it leans on
                that one, as if it had seen `_LEAN_CALLS` more calls at that rate.
        """
        if not longer:
            return self.calls / self.hours if self.hours else 0.0
        return (self.calls + _LEAN_CALLS) / (self.hours + _LEAN_CALLS / longer)


@dataclass(frozen=True, slots=True)
class Demand:
    """A forecast of calls: levels that follow the traffic, times a rhythm over the day.

    The rhythm is either given or learnt: calls and hours seen at each hour of the day (UTC), the
    older ones fading. Of levels there are several, each with a memory of its own: what the next
    quarter of an hour will bring is told by the last one, what the day will bring by the last day.
    So a burst is expected to last about as long again as it has lasted.

    Args:
        levels: From the longest memory to the shortest.
        slot_calls: Calls by hour of the day, faded; empty until something was learnt.
        slot_hours: Hours observed by hour of the day, faded.
        since_s: Begin of what was not learnt from yet, in epoch seconds.
        waiting: Calls since then.
    """

    levels: tuple[Level, ...] = (Level(),) * len(MEMORIES)
    slot_calls: tuple[float, ...] = ()
    slot_hours: tuple[float, ...] = ()
    since_s: float | None = None
    waiting: int = 0

    @classmethod
    def guess(cls, calls: float, hours: float) -> Demand:
        """A forecast from nothing but a number of calls in a number of hours."""
        return cls((Level(calls, hours),) * len(MEMORIES))

    def rhythm(self, weights: Sequence[float] | None = None) -> tuple[float, ...]:
        """Demand at each hour of the day, 1 being the mean; flat while nothing is known.

        An hour that was hardly seen is taken to be as busy as the busiest one: at night nobody
        knows yet how much the day will want.
        """
        if weights is not None:
            mean = sum(weights) / HOURS
            return tuple(weight / mean for weight in weights)
        if not sum(self.slot_calls):
            return _STEADY
        slots = tuple(zip(self.slot_calls, self.slot_hours, strict=True))
        mean = sum(self.slot_calls) / sum(self.slot_hours)
        busiest = max(
            (calls + _SLOT_PRIOR_H * mean) / (hours + _SLOT_PRIOR_H) for calls, hours in slots
        )
        unseen = _CAUTION * busiest + (1 - _CAUTION) * mean
        rates = [
            (calls + _SLOT_PRIOR_H * unseen) / (hours + _SLOT_PRIOR_H) for calls, hours in slots
        ]
        return tuple(rate / mean for rate in rates)

    def expected_calls(
        self,
        start_s: float,
        end_s: float,
        *,
        memory_s: float,
        weights: Sequence[float] | None = None,
    ) -> float:
        """Forecast the calls between two moments; 0 while nothing is known.

        Args:
            start_s: Now, in epoch seconds.
            end_s: Until when.
            memory_s: The longest memory, as given to `after`.
            weights: The rhythm, if it is given and not learnt.

        Example:
            >>> demand = Demand().after(60, start_s=0.0, end_s=1_800.0, memory_s=3_600.0)
            >>> round(demand.expected_calls(1_800.0, 5_400.0, memory_s=3_600.0))
            120
        """
        rhythm, calls, since_s = self.rhythm(weights), 0.0, start_s
        for rate, share in zip(reversed(self._rates()), reversed(MEMORIES), strict=True):
            until_s = end_s if share == 1.0 else min(end_s, start_s + _REACH * share * memory_s)
            if until_s > since_s:
                calls += rate * _weighted(rhythm, hours_of_day(since_s, until_s))
                since_s = until_s
        return calls

    def _rates(self) -> list[float]:
        rates: list[float] = []
        for level in self.levels:
            rates.append(level.per_hour(rates[-1] if rates else None))
        return rates

    def after(
        self,
        calls: int,
        *,
        start_s: float,
        end_s: float,
        memory_s: float,
        weights: Sequence[float] | None = None,
    ) -> Demand:
        """Return the forecast after so many calls came between two moments.

        Args:
            calls: How many came.
            start_s: Begin of the stretch, in epoch seconds.
            end_s: Its end; a stretch without length adds its calls and no time.
            memory_s: Seconds after which the longest memory has lost most of what was before.
            weights: The rhythm, if it is given and not learnt.
        """
        span_h = hours_of_day(start_s, max(start_s, end_s))
        hours = _weighted(self.rhythm(weights), span_h)
        levels = tuple(
            level.after(calls, hours, memory_h=share * memory_s / _HOUR_S)
            for level, share in zip(self.levels, MEMORIES, strict=True)
        )
        if weights is not None:
            return replace(self, levels=levels)
        return replace(self._learnt(calls, start_s, end_s), levels=levels)

    def _learnt(self, calls: int, start_s: float, end_s: float) -> Demand:
        """Learn the rhythm, but of hours that are over only.

        Else a surge would count twice: as a level that is high, and as an hour that always is, so
        that the hours after it would be expected to be quiet.
        """
        since_s = start_s if self.since_s is None else self.since_s
        hour_ends_s = (since_s // _HOUR_S + 1) * _HOUR_S
        if end_s < hour_ends_s:
            return replace(self, since_s=since_s, waiting=self.waiting + calls)
        slots = _slots_after(
            self.slot_calls, self.slot_hours, self.waiting, hours_of_day(since_s, hour_ends_s)
        )
        slots = _slots_after(*slots, calls, hours_of_day(hour_ends_s, end_s))
        return Demand(self.levels, *slots, since_s=end_s)


def _slots_after(
    slot_calls: tuple[float, ...],
    slot_hours: tuple[float, ...],
    calls: float,
    hours: tuple[float, ...],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Calls and hours by hour of the day, after some calls in a stretch, the older ones faded."""
    span = sum(hours) or 1.0
    fades = [exp(-new / _SLOT_MEMORY_H) for new in hours]
    new_calls = tuple(
        old * fade + calls * new / span
        for old, fade, new in zip(slot_calls or _NO_SLOTS, fades, hours, strict=True)
    )
    new_hours = tuple(
        old * fade + new
        for old, fade, new in zip(slot_hours or _NO_SLOTS, fades, hours, strict=True)
    )
    return new_calls, new_hours


def _weighted(rhythm: Sequence[float], hours: Sequence[float]) -> float:
    return sum(weight * span for weight, span in zip(rhythm, hours, strict=True))
