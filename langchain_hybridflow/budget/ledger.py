"""The contract of a ledger: reserve what a call can cost at worst, then commit what it did cost.

Parallel calls must not read one counter, decide, and then spend: all of them would see the same
money. A ledger admits a call by *holding* its worst case in one atomic step, so that with any
number of workers `used + held` passes no limit.

What holds for every method:

- **Time** is the store's: epoch seconds of one clock that all processes share (`now`). A store in
  memory takes the wall clock once and goes on monotonically. All others of this package take
  `clock=`, for tests: a function that returns epoch seconds and *replaces* the store's clock.
- **Expiry comes first**: each method settles the leases that are over their time (`expires_at <=
  now`) before it does its own work, and in the same atomic step.
- **Keys are names.** Windows are parts of keys, made by the caller; see `Account`. Limits are
  checked against the sums over `account.keys`, and only `account.key` is written to.
- **Forgetting**: what is counted under a key may be forgotten, all three columns at once, when
  the key was last written to at least `keep_s` seconds ago and no lease is open in it. Written to:
  by a granted reservation, by a settlement or a late commit of one. Reading, also as an `earlier`
  key, does not count. The last `keep_s` that was given for the key holds. A forgotten key is zero
  again, in counters and journal alike.
- **Settled ids** are remembered for a while (at least until then a second settlement is
  recognised); a store says for how long.
- **Errors**: `LedgerError` for use against the rules, and then nothing has changed.
  `LedgerUnavailable` if the store does not answer in time: fail closed. Then a command may or may
  not have been carried out, and all of them are safe to send again.
- **Threads and event loops**: the sync methods may be called from any thread. The async ones may
  be called from any event loop, also from several, one after the other or at once.
- **Nested settlements**: the garbage collector closes abandoned streams wherever it likes, and
  their `finally` settles. So `commit` and `release` may be called in the middle of any sync
  method, by the same thread. A plain lock would hang there.
- **Cancellation**: a cancelled `areserve` leaves nothing held that it did not find there. It lets
  its command come to an end, frees what that opened, and only then raises. A cancelled `acommit`,
  `arelease` or `aextend` was carried out as a whole, or not at all.

An implementation proves itself with `langchain_hybridflow.testing.LedgerConformance` and
`ledger_state_machine`; `langchain_hybridflow.budget.rules` has the checks that need no store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from langchain_hybridflow.budget.types import (
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    Note,
    Reconciliation,
)

__all__ = ["AsyncFromSync", "Ledger", "SyncLedger"]


class SyncLedger(Protocol):
    """The blocking half of a `Ledger`; the rules stand on its methods."""

    def now(self) -> float:
        """The time of the store, in epoch seconds; never goes back.

        A store over a network does not ask for it: it learns how far its clock is from the local
        monotonic one from every reply, so that only the first call waits for the network.
        """
        ...

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Hold `amounts` in all accounts, or in none.

        While the lease is open, the same id with the same amounts and the same `account.key`s, in
        the same order, gets the same lease again (the same `expires_at`) and nothing more is held:
        a request that is sent twice counts once.

        Args:
            lease_id: Identity of the purchase; never used again for another one.
            amounts: The worst case of the call.
            accounts: Where it is held, with the limits to check. The first account and
                dimension that has too little left names the denial. A dimension of which nothing
                is asked cannot deny. The numbers of the denial are sums over `account.keys`.
            ttl_s: Seconds after which an unsettled lease expires.

        Raises:
            LedgerError: If the id is open with other amounts or accounts, or was settled before;
                if a key is named twice (`rules.check_request`); if `ttl_s` is not positive.
            LedgerUnavailable: If the store does not answer.
        """
        ...

    def extend(self, lease_id: str, ttl_s: float) -> Lease:
        """Let an open lease expire `ttl_s` seconds from now; never earlier than before.

        The accounts of the returned lease may be known by key alone, with an empty scope and no
        limits; those of `expire`, too. Their order is that of the reservation.

        Raises:
            LedgerError: If the lease is not open, or `ttl_s` is not positive.
            LedgerUnavailable: If the store does not answer.
        """
        ...

    def commit(self, lease_id: str, actual: Amounts) -> bool:
        """Book what the call cost and free the rest of the reservation.

        It is booked into the keys that the lease was granted in. What was spent is never dropped.
        The part of it that the reservation did not cover (`actual.excess_over(amounts)`) is booked
        too and counted as overdraft, also when it passes a limit. So is the cost of a lease that
        was released, or expired with a refund, and, of a lease that was charged when it expired,
        whatever the charge did not cover. The same commit again changes nothing.

        Returns:
            Whether this call settled the lease; `False` if it was settled before, also if by this
            very commit, whose reply was lost.

        Raises:
            LedgerError: If the ledger does not know the id, or booked another cost for it.
            LedgerUnavailable: If the store does not answer.
        """
        ...

    def release(self, lease_id: str) -> bool:
        """Free the reservation: the call was never made, and cost nothing.

        Returns:
            Whether this call settled the lease; `False`, and nothing changes, if the lease was
            settled before or the id is unknown. So it is safe in a `finally`.

        Raises:
            LedgerUnavailable: If the store does not answer.
        """
        ...

    def expire(self) -> tuple[Lease, ...]:
        """Settle all leases that are over their time, and return them.

        An expired lease is *charged* (`used` grows by what it held) unless the ledger was built
        with `on_expiry="refund"`: nobody knows that the call was not made. Every other method does
        this first, too; each lease is returned by at most one `expire`, of any process, and not at
        all if another method settled it.

        Raises:
            LedgerUnavailable: If the store does not answer.
        """
        ...

    def snapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """The counters of the accounts, all at one instant, in the order asked for.

        An account that nobody has used has zero in all counters. `at` is that instant, and `note`
        what `swap_note` wrote for `account.key`. One key may be asked for any number of times.

        Raises:
            LedgerUnavailable: If the store does not answer.
        """
        ...

    def swap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        """Write the note of an account, unless somebody else was faster (compare and set).

        If the note that stands has `expected_version` (0 if none does), it becomes
        `Note(expected_version + 1, text)`; else nothing changes. Of several that expect the same
        version, exactly one writes. Notes have no part in counters and journal.

        Args:
            key: Key of an account; it need not have been used.
            expected_version: The version that the caller has read.
            text: At most `rules.MAX_NOTE_BYTES` bytes of UTF-8.
            keep_s: Seconds after which the note may be forgotten, counted from the last time that
                it was written; `None` for never.

        Returns:
            The note that stands afterwards, `Note(0, "")` if there is none. It is the caller's own
            if version and text are; sent again after a lost reply, the same call returns the same.

        Raises:
            LedgerError: If the text is too long or the version negative (`rules.check_note`).
            LedgerUnavailable: If the store does not answer.
        """
        ...

    def reconcile(self, *, repair: bool = False) -> Reconciliation:
        """Compare all counters with what the journal and the open leases say.

        The journal is the record of what was booked (keys, used, overdraft), written in the same
        atomic step as the counters and apart from them. Its old lines are summed up, into an
        opening balance for each key, so that it stays bounded. For each key, `used` and
        `overdraft` must be the opening balance and all later lines together, and `held` the
        amounts of the leases that are open in it; a key that only one side knows is a difference,
        too, if it is not zero.

        Args:
            repair: Set the counters that differ to what the journal says.

        Raises:
            LedgerUnavailable: If the store does not answer.
        """
        ...

    def close(self) -> None:
        """Free connections and files; harmless when done twice.

        Leases and counters stay. The next call connects anew.
        """
        ...


class _AsyncLedger(Protocol):
    """The awaitable half of a `Ledger`: the same rules, method by method."""

    async def anow(self) -> float:
        """Do what `now` does, without blocking the event loop."""
        ...

    async def areserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Do what `reserve` does, without blocking the event loop."""
        ...

    async def aextend(self, lease_id: str, ttl_s: float) -> Lease:
        """Do what `extend` does, without blocking the event loop."""
        ...

    async def acommit(self, lease_id: str, actual: Amounts) -> bool:
        """Do what `commit` does, without blocking the event loop."""
        ...

    async def arelease(self, lease_id: str) -> bool:
        """Do what `release` does, without blocking the event loop."""
        ...

    async def aexpire(self) -> tuple[Lease, ...]:
        """Do what `expire` does, without blocking the event loop."""
        ...

    async def asnapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """Do what `snapshot` does, without blocking the event loop."""
        ...

    async def aswap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        """Do what `swap_note` does, without blocking the event loop."""
        ...

    async def areconcile(self, *, repair: bool = False) -> Reconciliation:
        """Do what `reconcile` does, without blocking the event loop."""
        ...

    async def aclose(self) -> None:
        """Free the connections of the running event loop, and do what `close` does."""
        ...


@runtime_checkable
class Ledger(SyncLedger, _AsyncLedger, Protocol):
    """Counters with limits, safe for any number of threads, tasks and processes.

    Example:
        >>> from langchain_hybridflow.budget import Account, Amounts, Limits, MemoryLedger
        >>> ledger: Ledger = MemoryLedger()
        >>> user = Account("user/ada", "user", Limits(cloud_calls=2))
        >>> lease = ledger.reserve("call-1", Amounts(cloud_calls=2), accounts=[user], ttl_s=60)
        >>> ledger.reserve("call-2", Amounts(cloud_calls=1), accounts=[user], ttl_s=60).held
        2
        >>> ledger.commit("call-1", Amounts(cloud_calls=1))
        True
    """


class AsyncFromSync:
    """Async twins for a ledger whose sync methods never wait for anything but a short lock.

    They do not suspend: a settlement cannot be cut in two by a cancellation.
    """

    async def anow(self: SyncLedger) -> float:
        """Do what `now` does."""
        return self.now()

    async def areserve(
        self: SyncLedger,
        lease_id: str,
        amounts: Amounts,
        *,
        accounts: Sequence[Account],
        ttl_s: float,
    ) -> Lease | Denial:
        """Do what `reserve` does."""
        return self.reserve(lease_id, amounts, accounts=accounts, ttl_s=ttl_s)

    async def aextend(self: SyncLedger, lease_id: str, ttl_s: float) -> Lease:
        """Do what `extend` does."""
        return self.extend(lease_id, ttl_s)

    async def acommit(self: SyncLedger, lease_id: str, actual: Amounts) -> bool:
        """Do what `commit` does."""
        return self.commit(lease_id, actual)

    async def arelease(self: SyncLedger, lease_id: str) -> bool:
        """Do what `release` does."""
        return self.release(lease_id)

    async def aexpire(self: SyncLedger) -> tuple[Lease, ...]:
        """Do what `expire` does."""
        return self.expire()

    async def asnapshot(self: SyncLedger, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """Do what `snapshot` does."""
        return self.snapshot(accounts)

    async def aswap_note(
        self: SyncLedger,
        key: str,
        *,
        expected_version: int,
        text: str,
        keep_s: float | None = None,
    ) -> Note:
        """Do what `swap_note` does."""
        return self.swap_note(key, expected_version=expected_version, text=text, keep_s=keep_s)

    async def areconcile(self: SyncLedger, *, repair: bool = False) -> Reconciliation:
        """Do what `reconcile` does."""
        return self.reconcile(repair=repair)

    async def aclose(self: SyncLedger) -> None:
        """Do what `close` does."""
        self.close()
