"""A ledger in the memory of this process, for any number of its threads and coroutines."""

from __future__ import annotations

import heapq
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from langchain_hybridflow.budget import rules
from langchain_hybridflow.budget._books import Books
from langchain_hybridflow.budget.admin import Reset, archive_of, still_in_use
from langchain_hybridflow.budget.ledger import AsyncFromSync
from langchain_hybridflow.budget.share import Refill, check_refills, taken_id
from langchain_hybridflow.budget.types import (
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    Note,
    Reconciliation,
)
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["MemoryLedger"]


@dataclass(slots=True)
class _Settled:
    """How a lease ended, for as long as the ledger remembers it."""

    accounts: tuple[Account, ...]
    how: rules.Ending
    booked: Amounts
    actual: Amounts | None


class MemoryLedger(AsyncFromSync):
    """Keep the counters in this process; the reference for every other ledger.

    One short lock guards everything. The cost of a call does not depend on how many reservations
    or accounts there were before: open leases wait for their expiry in a heap, as do accounts with
    `keep_s` for being forgotten, a few at a time; the journal is summed up every few hundred lines;
    and of the settled leases the last `settled_memory` are remembered, to recognise a second
    settlement of the same lease. A settlement that comes even later is refused with `LedgerError`.

    Args:
        clock: Seconds, monotonic.
        on_expiry: `"charge"` books an expired lease in full, as nobody knows that its call was not
            made; `"refund"` frees it.
        epoch_s: The epoch seconds that the ledger's time starts with, to the nearest 1/1024 s; the
            wall clock by default. From then on only `clock` counts: setting the wall clock changes
            nothing.
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
        on_expiry: rules.OnExpiry = "charge",
        *,
        epoch_s: float | None = None,
        settled_memory: int = 100_000,
    ) -> None:
        if settled_memory < 1:
            raise ConfigurationError(f"settled_memory must be at least 1, not {settled_memory}.")
        self._clock = clock
        self._on_expiry = rules.check_on_expiry(on_expiry)
        self._settled_memory = settled_memory
        # In 1/1024 s, so that adding it rounds nothing: 60 s of the clock are 60 s of the ledger.
        started_s = time.time() if epoch_s is None else epoch_s
        self._offset_s = round((started_s - clock()) * 1024) / 1024
        # Reentrant: the garbage collector may close an abandoned stream, whose `finally` settles
        # a lease, in the middle of any method here. No step below leaves counters half written
        # where Python code can run, so such a nested settlement is safe; a plain lock would hang.
        self._lock = threading.RLock()
        self._books = Books()
        self._open: dict[str, Lease] = {}
        self._settled: OrderedDict[str, _Settled] = OrderedDict()
        self._expiries: list[tuple[float, str]] = []

    @property
    def on_expiry(self) -> rules.OnExpiry:
        """What becomes of an expired lease."""
        return self._on_expiry

    def now(self) -> float:
        """The time of the ledger, in epoch seconds; it never jumps."""
        return self._clock() + self._offset_s

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Hold `amounts` in all accounts, or in none; see `SyncLedger.reserve`.

        Raises:
            LedgerError: If the id is open with other amounts or accounts, or was settled before;
                if an account is named twice, or the time to live is not positive.
        """
        places = rules.check_request(lease_id, accounts)
        rules.check_ttl_s(ttl_s)
        with self._lock:
            now = self._begin()
            known = self._open.get(lease_id)
            if known is not None:
                rules.check_replay(
                    lease_id,
                    amounts=amounts,
                    accounts=places,
                    open_amounts=known.amounts,
                    open_keys=[account.key for account in known.accounts],
                )
                return known
            if lease_id in self._settled:
                raise rules.already_settled(lease_id, self._settled[lease_id].how)
            denial = self._first_denial(amounts, places)
            if denial is not None:
                return denial
            lease = Lease(lease_id, amounts, places, now + ttl_s)
            self._books.hold(places, amounts, now)
            self._open[lease_id] = lease
            heapq.heappush(self._expiries, (lease.expires_at, lease_id))
            return lease

    def extend(self, lease_id: str, ttl_s: float) -> Lease:
        """Let an open lease expire `ttl_s` seconds from now; never earlier than before.

        Raises:
            LedgerError: If the lease is not open, or the time to live is not positive.
        """
        rules.check_ttl_s(ttl_s)
        with self._lock:
            expires_at = self._begin() + ttl_s
            lease = self._open.get(lease_id)
            if lease is None:
                raise rules.not_open(lease_id)
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
            now = self._begin()
            lease = self._open.get(lease_id)
            if lease is None:
                self._commit_late(lease_id, actual, now)
                return False
            self._settle(lease, "committed", now, booked=actual, actual=actual)
            return True

    def release(self, lease_id: str) -> bool:
        """Free the reservation: the call was never made; see `SyncLedger.release`."""
        with self._lock:
            now = self._begin()
            lease = self._open.get(lease_id)
            if lease is None:
                return False
            self._settle(lease, "released", now, booked=NOTHING, actual=None)
            return True

    def expire(self) -> tuple[Lease, ...]:
        """Settle all leases that are over their time, and return them."""
        with self._lock:
            return self._settle_expired(self.now())

    def snapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """The counters of the accounts, all at one instant, in the order asked for."""
        with self._lock:
            return self._books.states(accounts, self._begin())

    def swap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        """Write the note of an account, unless somebody else was faster.

        Raises:
            LedgerError: If the text is too long or the version negative.
        """
        rules.check_note(key, expected_version, text, keep_s)
        with self._lock:
            return self._books.swap_note(
                key, self._begin(), expected_version=expected_version, text=text, keep_s=keep_s
            )

    def refill(self, refill_id: str, refills: Sequence[Refill]) -> bool:
        """Count an answered prompt in some accounts, once; see `RefillableLedger.refill`.

        Raises:
            LedgerError: An account is named twice, or the id is that of an open lease.
        """
        given = check_refills(refill_id, refills)
        with self._lock:
            now = self._begin()
            if refill_id in self._open:
                raise taken_id(refill_id)
            if refill_id in self._settled:
                return False
            self._remember(refill_id, _Settled((), "committed", NOTHING, NOTHING))
            for refill in given:
                self._books.refill(refill, now)
            return True

    async def arefill(self, refill_id: str, refills: Sequence[Refill]) -> bool:
        """Do what `refill` does."""
        return self.refill(refill_id, refills)

    def reconcile(self, *, repair: bool = False) -> Reconciliation:
        """Compare all counters with what the journal and the open leases say."""
        with self._lock:
            self._begin()
            return self._books.reconcile(self._open, repair=repair)

    def list_keys(self, prefix: str = "") -> tuple[str, ...]:
        """All keys that begin with `prefix` and have counters or a note, sorted."""
        with self._lock:
            self._begin()
            return tuple(sorted(key for key in self._books.all_keys() if key.startswith(prefix)))

    def open_leases(self, key: str | None = None) -> tuple[Lease, ...]:
        """The leases that are open, or those in one account; the first to expire comes first."""
        with self._lock:
            self._begin()
            leases = list(self._open.values())
        found = (
            lease
            for lease in leases
            if key is None or any(account.key == key for account in lease.accounts)
        )
        return tuple(sorted(found, key=lambda lease: (lease.expires_at, lease.id)))

    def reset(self, key: str, *, force: bool = False) -> Reset:
        """Let an account begin anew, and move what was used in it; see `LedgerAdmin.reset`.

        Raises:
            LedgerError: If leases are open in it and it is not forced.
        """
        archive = archive_of(key)
        with self._lock:
            self._begin()
            open_leases = self._books.open_in(key)
            if open_leases and not force:
                raise still_in_use(key, open_leases)
            return Reset(key, archive, *self._books.move(key, archive), open_leases)

    def close(self) -> None:
        """Do nothing: there is nothing to free but memory."""

    def _begin(self) -> float:
        """What every method does first; returns the time."""
        now = self.now()
        self._settle_expired(now)
        self._books.forget(now)
        return now

    def _first_denial(self, amounts: Amounts, accounts: Iterable[Account]) -> Denial | None:
        for account in accounts:
            used, held = self._books.used_and_held(account)
            denial = rules.first_denial(amounts, account, used, held)
            if denial is not None:
                return denial
        return None

    def _settle(
        self,
        lease: Lease,
        how: rules.Ending,
        now: float,
        *,
        booked: Amounts,
        actual: Amounts | None,
    ) -> None:
        record = _Settled(lease.accounts, how, booked, actual)
        overdraft = NOTHING if booked == lease.amounts else booked.excess_over(lease.amounts)
        del self._open[lease.id]
        self._remember(lease.id, record)
        self._books.settle(
            lease.accounts, now, held=lease.amounts, used=booked, overdraft=overdraft
        )
        self._compact_expiries()

    def _remember(self, lease_id: str, record: _Settled) -> None:
        self._settled[lease_id] = record
        if len(self._settled) > self._settled_memory:
            self._settled.popitem(last=False)

    def _commit_late(self, lease_id: str, actual: Amounts, now: float) -> None:
        settled = self._settled.get(lease_id)
        if settled is None:
            raise rules.unknown_lease(lease_id, actual)
        if settled.actual is None:
            uncovered = actual.excess_over(settled.booked)
            settled.actual = actual
            self._books.book_late(settled.accounts, now, uncovered)
        elif settled.actual != actual:
            raise rules.other_cost(lease_id, first=settled.actual, now=actual)

    def _settle_expired(self, now: float) -> tuple[Lease, ...]:
        if not self._expiries or self._expiries[0][0] > now:
            return ()
        over: list[Lease] = []
        while self._expiries and self._expiries[0][0] <= now:
            _, lease_id = heapq.heappop(self._expiries)
            lease = self._open.get(lease_id)
            if lease is not None and lease.expires_at <= now:
                booked = lease.amounts if self._on_expiry == "charge" else NOTHING
                self._settle(lease, "expired", now, booked=booked, actual=None)
                over.append(lease)
        return tuple(over)

    def _compact_expiries(self) -> None:
        # Settled and extended leases leave their old entries behind. Rebuilding when they are the
        # majority keeps the heap as small as the open leases, at a constant cost per lease.
        if len(self._expiries) > 2 * len(self._open) + 64:
            # list(): a nested settlement must not change the dict that is being read here.
            self._expiries = [(lease.expires_at, lease.id) for lease in list(self._open.values())]
            heapq.heapify(self._expiries)
