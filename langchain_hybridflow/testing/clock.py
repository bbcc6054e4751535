"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading

__all__ = ["ManualClock"]


class ManualClock:
    """Seconds that pass only when told to; use it wherever a `clock=` is taken.

    Args:
        start_s: What it shows at first.

    Example:
        >>> clock = ManualClock()
        >>> clock.advance(2.5)
        2.5
        >>> clock()
        2.5
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """The time that it shows, in seconds."""
        return self._now_s

    def advance(self, seconds: float) -> float:
        """Let time pass and return the new time.

        Raises:
            ValueError: If `seconds` is negative: a monotonic clock does not go back.
        """
        if seconds < 0:
            raise ValueError(f"A monotonic clock cannot go back by {-seconds} s.")
        with self._lock:
            self._now_s += seconds
            return self._now_s
