"""What one run alone has spent and holds."""

from __future__ import annotations

import threading
from operator import add

from langchain_hybridflow.budget.types import NOTHING, Amounts, Lease

__all__ = ["Tally"]


class Tally:
    """Counts for one run, in this process, whatever the accounts are; safe to share by threads.

    Example:
        >>> tally = Tally()
        >>> lease = tally.granted(Lease("a", Amounts(cloud_calls=2), (), 60.0))
        >>> tally.total()
        Amounts(usd_micros=0, cloud_tokens=0, cloud_calls=2)
        >>> tally.settled(lease, Amounts(cloud_calls=1))
        >>> tally.total()
        Amounts(usd_micros=0, cloud_tokens=0, cloud_calls=1)
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant, for the reason given in `MemoryLedger`
        self._unsettled: dict[str, Amounts] = {}
        self._held = [0, 0, 0]
        self._spent = [0, 0, 0]

    def granted(self, lease: Lease) -> Lease:
        """Note a reservation, once, and return it."""
        with self._lock:
            if lease.id not in self._unsettled:
                self._unsettled[lease.id] = lease.amounts
                _add(self._held, lease.amounts, sign=1)
        return lease

    def settled(self, lease: Lease, actual: Amounts) -> None:
        """Note what a reservation has come to; again, it changes nothing."""
        with self._lock:
            held = self._unsettled.pop(lease.id, None)
            if held is None and lease.accounts:
                return  # settled before: this was a replay
            _add(self._spent, actual, sign=1)
            _add(self._held, held or NOTHING, sign=-1)

    def total(self) -> Amounts:
        """Return what is spent and held together."""
        with self._lock:
            return Amounts(*map(add, self._spent, self._held))


def _add(totals: list[int], amounts: Amounts, *, sign: int) -> None:
    totals[0] += sign * amounts.usd_micros
    totals[1] += sign * amounts.cloud_tokens
    totals[2] += sign * amounts.cloud_calls
