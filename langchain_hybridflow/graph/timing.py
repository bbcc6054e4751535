"""How long a call of a subtask may take, so that the run meets its deadline."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_hybridflow.routing import Tier

__all__ = ["SHORTEST_S", "TierTimes", "TimeBox", "share_of"]

SHORTEST_S: Final = 1.0
"""No call gets less time than this, in seconds, as long as the run has it."""

_KEPT_BACK: Final = 0.25
_WEIGHT: Final = 0.3
_UNKNOWN_SHARE: Final = 0.5
_KNOWN_PATHS: Final = 1e9


class TierTimes:
    """How long the calls of each tier take: a mean in which older calls count less and less.

    Example:
        >>> times = TierTimes()
        >>> times.expected_s("cloud") is None
        True
        >>> times.note("cloud", 2.0)
        >>> times.note("cloud", 4.0)
        >>> times.expected_s("cloud")
        2.6
    """

    def __init__(self) -> None:
        self._mean_s: dict[Tier, float] = {}
        self._lock = threading.Lock()

    def note(self, tier: Tier, seconds: float) -> None:
        """Take in how long a call took; of one that was cut off, how long it was waited for."""
        with self._lock:
            mean_s = self._mean_s.get(tier, seconds)
            self._mean_s[tier] = mean_s + _WEIGHT * (seconds - mean_s)

    def expected_s(self, tier: Tier) -> float | None:
        """Return how long a call will take, in seconds; `None` if nobody has made one yet."""
        return self._mean_s.get(tier)


def share_of(work: Mapping[str, Any]) -> float:
    """Return a subtask's share of the way that is still to go, by expected output tokens.

    That is its own length over the length of the longest path from it to the answer. While the
    plan is being written nobody knows that path; the share is then a half.

    Args:
        work: What the subtask's node was sent.
    """
    path = float(work["urgency"])
    if not 0.0 < path < _KNOWN_PATHS:
        return _UNKNOWN_SHARE
    return min(float(work["subtask"]["expected_output_tokens"]) / path, 1.0)


@dataclass(frozen=True, slots=True)
class TimeBox:
    """The time of one call.

    Attributes:
        limit_s: Longest call, in seconds; `None` without a deadline.
        fits: Whether the call is expected to end within it.
    """

    limit_s: float | None
    fits: bool = True

    @classmethod
    def of(
        cls,
        tier: Tier,
        work: Mapping[str, Any],
        *,
        remaining_s: float | None,
        times: TierTimes,
        edge_follows: bool,
    ) -> TimeBox:
        """Divide what is left of the run's time.

        A subtask gets its share of it (see `share_of`), and at least `SHORTEST_S`. If the edge may
        answer after a cloud call that is late, the time that it takes is kept back: what its
        calls took so far, or else a quarter.

        Args:
            tier: Who is asked.
            work: What the subtask's node was sent.
            remaining_s: What is left of the run's time, in seconds; `None` without a deadline.
            times: How long the calls of each tier take.
            edge_follows: Whether the edge may answer if the cloud does not.
        """
        if remaining_s is None:
            return cls(None)
        limit_s = min(remaining_s, max(SHORTEST_S, remaining_s * share_of(work)))
        if tier == "edge" or not edge_follows:
            return cls(limit_s)
        edge_s = times.expected_s("edge")
        kept_s = limit_s * _KEPT_BACK if edge_s is None else edge_s
        limit_s = max(limit_s - kept_s, 0.0)
        expected_s = times.expected_s("cloud")
        return cls(limit_s, fits=limit_s > 0 and (expected_s is None or expected_s <= limit_s))
