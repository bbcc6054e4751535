"""A ledger in the memory of this process, for any number of its threads and coroutines."""

from __future__ import annotations

import heapq
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

from langchain_hybridflow.budget.ledger import AsyncFromSync
from langchain_hybridflow.budget.types import (
    DIMENSIONS,
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
)
from langchain_hybridflow.errors import ConfigurationError, LedgerError

__all__ = ["MemoryLedger"]


class _Counters:
    """The counters of one account, three integers each, in the order of `DIMENSIONS`."""

    __slots__ = ("held", "overdraft", "used")

    def __init__(self) -> None:
        self.used = [0, 0, 0]
        self.held = [0, 0, 0]
        self.overdraft = [0, 0, 0]


@dataclass(slots=True)
class _Settled:
    """How a lease ended, for as long as the ledger remembers it."""

    accounts: tuple[Account, ...]
    how: Literal["committed", "released", "expired"]
    booked: Amounts
    actual: Amounts | None


class MemoryLedger(AsyncFromSync):
    """Keep the counters in this process; the reference for every other ledger.

    One short lock guards everything. The cost of a call does not depend on how many reservations
    there were before: open leases wait for their expiry in a heap, and of the settled ones the
    last `settled_memory` are remembered, to recognise a second settlement of the same lease. A
    settlement that comes even later is refused with `LedgerError`.

    Args:
        clock: Seconds, monotonic.
        on_expiry: `"charge"` books an expired lease in full, as nobody knows that its call was not
            made; `"refund"` frees it.
        settled_memory: How many settled leases are remembered.

    Raises:
        ConfigurationError: If `on_expiry` or `settled_memory` cannot work as given.

    Example:
        >>> from langchain_hybridflow.budget import Account, Amounts, Limits
        >>> ledger = MemoryLedger()
        >>> account = Account("team", "team", Limits(cloud_tokens=1_000))
        >>> lease = ledger.reserve("a", Amounts(cloud_tokens=800), accounts=[account], ttl_s=60)
        >>> ledger.reserve("b", Amounts(cloud_tokens=300), accounts=[account], ttl_s=60).remaining
        200
        >>> ledger.commit("a", Amounts(cloud_tokens=150))
        True
        >>> ledger.snapshot([account])[0].remaining("cloud_tokens")
        850
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        on_expiry: Literal["charge", "refund"] = "charge",
        *,
        settled_memory: int = 100_000,
    ) -> None:
        if on_expiry not in ("charge", "refund"):
            raise ConfigurationError(f"on_expiry must be 'charge' or 'refund', not {on_expiry!r}.")
        if settled_memory < 1:
            raise ConfigurationError(f"settled_memory must be at least 1, not {settled_memory}.")
        self._clock = clock
        self._on_expiry = on_expiry
        self._settled_memory = settled_memory
        # Reentrant: the garbage collector may close an abandoned stream, whose `finally` settles
        # a lease, in the middle of any method here. No step below leaves counters half written
        # where Python code can run, so such a nested settlement is safe; a plain lock would hang.
        self._lock = threading.RLock()
        self._counters: dict[str, _Counters] = {}
        self._open: dict[str, Lease] = {}
        self._settled: OrderedDict[str, _Settled] = OrderedDict()
        self._expiries: list[tuple[float, str]] = []

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Hold `amounts` in all accounts, or in none; see `SyncLedger.reserve`.

        Raises:
            LedgerError: If the id is open with other amounts or accounts, or was settled before;
                if an account is named twice, or the time to live is not positive.
        """
        places = _distinct(accounts)
        with self._lock:
            now = self._clock()
            expires_at = _expiry(now, ttl_s)
            self._settle_expired(now)
            known = self._open.get(lease_id)
            if known is not None:
                return _replay(known, amounts, places)
            if lease_id in self._settled:
                raise LedgerError(
                    f"Lease {lease_id!r} was {self._settled[lease_id].how} before. A lease id "
                    f"stands for one purchase: give a new attempt a new id."
                )
            denial = self._first_denial(amounts, places)
            if denial is not None:
                return denial
            lease = Lease(lease_id, amounts, places, expires_at)
            self._add("held", places, amounts)
            self._open[lease_id] = lease
            heapq.heappush(self._expiries, (expires_at, lease_id))
            return lease

    def extend(self, lease_id: str, ttl_s: float) -> Lease:
        """Let an open lease expire `ttl_s` seconds from now; never earlier than before.

        Raises:
            LedgerError: If the lease is not open, or the time to live is not positive.
        """
        with self._lock:
            now = self._clock()
            expires_at = _expiry(now, ttl_s)
            self._settle_expired(now)
            lease = self._open.get(lease_id)
            if lease is None:
                raise LedgerError(f"Lease {lease_id!r} is not open, so it cannot be extended.")
            if expires_at > lease.expires_at:
                lease = replace(lease, expires_at=expires_at)
                self._open[lease_id] = lease
                heapq.heappush(self._expiries, (expires_at, lease_id))
                self._compact_expiries()
            return lease

    def commit(self, lease_id: str, actual: Amounts) -> bool:
        """Book what the call cost and free the rest; see `SyncLedger.commit`.

        Raises:
            LedgerError: If the id is unknown, or another cost was booked for it.
        """
        with self._lock:
            self._settle_expired(self._clock())
            lease = self._open.get(lease_id)
            if lease is None:
                self._commit_late(lease_id, actual)
                return False
            self._settle(lease, "committed", booked=actual, actual=actual)
            return True

    def release(self, lease_id: str) -> bool:
        """Free the reservation: the call was never made; see `SyncLedger.release`."""
        with self._lock:
            self._settle_expired(self._clock())
            lease = self._open.get(lease_id)
            if lease is None:
                return False
            self._settle(lease, "released", booked=NOTHING, actual=None)
            return True

    def expire(self) -> tuple[Lease, ...]:
        """Settle all leases that are over their time, and return them."""
        with self._lock:
            return self._settle_expired(self._clock())

    def snapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """The counters of the accounts, all at one instant, in the order asked for."""
        with self._lock:
            self._settle_expired(self._clock())
            return tuple(self._state(account) for account in accounts)

    def _state(self, account: Account) -> AccountState:
        counters = self._counters.get(account.key)
        if counters is None:
            return AccountState(account)
        used, held = Amounts(*counters.used), Amounts(*counters.held)
        return AccountState(account, used, held, Amounts(*counters.overdraft))

    def _first_denial(self, amounts: Amounts, accounts: Iterable[Account]) -> Denial | None:
        for account in accounts:
            counters = self._counters.get(account.key)
            for index, (requested, limit) in enumerate(zip(amounts, account.limits, strict=True)):
                if limit is None or requested == 0:
                    continue
                held = counters.held[index] if counters else 0
                remaining = limit - held - (counters.used[index] if counters else 0)
                if requested > remaining:
                    return Denial(
                        dimension=DIMENSIONS[index],
                        requested=requested,
                        remaining=max(0, remaining),
                        limit=limit,
                        scope=account.scope,
                        held=held,
                    )
        return None

    def _add(
        self,
        column: Literal["used", "held", "overdraft"],
        accounts: Iterable[Account],
        amounts: Amounts,
        *,
        sign: Literal[1, -1] = 1,
    ) -> None:
        if not amounts:
            return
        for account in accounts:
            counters = self._counters.get(account.key)
            if counters is None:
                counters = self._counters.setdefault(account.key, _Counters())
            values: list[int] = getattr(counters, column)
            values[0] += sign * amounts.usd_micros
            values[1] += sign * amounts.cloud_tokens
            values[2] += sign * amounts.cloud_calls

    def _settle(
        self,
        lease: Lease,
        how: Literal["committed", "released", "expired"],
        *,
        booked: Amounts,
        actual: Amounts | None,
    ) -> None:
        record = _Settled(lease.accounts, how, booked, actual)
        del self._open[lease.id]
        self._settled[lease.id] = record
        self._add("used", lease.accounts, booked)
        self._add("held", lease.accounts, lease.amounts, sign=-1)
        if booked != lease.amounts:
            self._add("overdraft", lease.accounts, booked.excess_over(lease.amounts))
        if len(self._settled) > self._settled_memory:
            self._settled.popitem(last=False)
        self._compact_expiries()

    def _commit_late(self, lease_id: str, actual: Amounts) -> None:
        settled = self._settled.get(lease_id)
        if settled is None:
            raise LedgerError(
                f"Lease {lease_id!r} is unknown: it was never granted, or was settled so long ago "
                f"that it is forgotten. Its cost {actual} is in no account."
            )
        if settled.actual is None:
            uncovered = actual.excess_over(settled.booked)
            settled.actual = actual
            self._add("used", settled.accounts, uncovered)
            self._add("overdraft", settled.accounts, uncovered)
        elif settled.actual != actual:
            raise LedgerError(
                f"Lease {lease_id!r} was committed with {settled.actual} before, and now with "
                f"{actual}. A lease is settled once; the first commit stands."
            )

    def _settle_expired(self, now: float) -> tuple[Lease, ...]:
        if not self._expiries or self._expiries[0][0] > now:
            return ()
        over: list[Lease] = []
        while self._expiries and self._expiries[0][0] <= now:
            _, lease_id = heapq.heappop(self._expiries)
            lease = self._open.get(lease_id)
            if lease is not None and lease.expires_at <= now:
                booked = lease.amounts if self._on_expiry == "charge" else NOTHING
                self._settle(lease, "expired", booked=booked, actual=None)
                over.append(lease)
        return tuple(over)

    def _compact_expiries(self) -> None:
        # Settled and extended leases leave their old entries behind. Rebuilding when they are the
        # majority keeps the heap as small as the open leases, at a constant cost per lease.
        if len(self._expiries) > 2 * len(self._open) + 64:
            # list(): a nested settlement must not change the dict that is being read here.
            self._expiries = [(lease.expires_at, lease.id) for lease in list(self._open.values())]
            heapq.heapify(self._expiries)


def _distinct(accounts: Sequence[Account]) -> tuple[Account, ...]:
    places = tuple(accounts)
    if len(places) > 1 and len({account.key for account in places}) != len(places):
        raise LedgerError("A reservation names one account twice; it would be held twice there.")
    return places


def _expiry(now: float, ttl_s: float) -> float:
    if not (isfinite(ttl_s) and ttl_s > 0):
        raise LedgerError(f"ttl_s must be finite and positive, not {ttl_s!r}.")
    return now + ttl_s


def _replay(known: Lease, amounts: Amounts, accounts: tuple[Account, ...]) -> Lease:
    same_keys = [a.key for a in known.accounts] == [a.key for a in accounts]
    if known.amounts != amounts or not same_keys:
        raise LedgerError(
            f"Lease {known.id!r} is open with {known.amounts}, and is now asked for with "
            f"{amounts} or other accounts. A lease id stands for one purchase."
        )
    return known
