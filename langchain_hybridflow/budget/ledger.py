"""The contract of a ledger: reserve what a call can cost at worst, then commit what it did cost.

Parallel calls must not read one counter, decide, and then spend: all of them would see the same
money. A ledger admits a call by *holding* its worst case in one atomic step, so that with any
number of workers `used + held` passes no limit.

An implementation proves itself with `langchain_hybridflow.testing.LedgerConformance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from langchain_hybridflow.budget.types import Account, AccountState, Amounts, Denial, Lease

__all__ = ["AsyncFromSync", "Ledger", "SyncLedger"]


class SyncLedger(Protocol):
    """The blocking half of a `Ledger`; the rules stand on its methods."""

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Hold `amounts` in all accounts, or in none.

        While the lease is open, the same id with the same amounts and accounts gets the same
        lease again and nothing more is held: a request that is sent twice counts once.

        Args:
            lease_id: Identity of the purchase; never used again for another one.
            amounts: The worst case of the call.
            accounts: Where it is held, with the limits to check. The first account and
                dimension that has too little left names the denial.
            ttl_s: Seconds after which an unsettled lease expires.

        Raises:
            LedgerError: If the id is open with other amounts or accounts, or was settled before.
        """
        ...

    def extend(self, lease_id: str, ttl_s: float) -> Lease:
        """Let an open lease expire `ttl_s` seconds from now; never earlier than before.

        Raises:
            LedgerError: If the lease is not open.
        """
        ...

    def commit(self, lease_id: str, actual: Amounts) -> bool:
        """Book what the call cost and free the rest of the reservation.

        What was spent is never dropped. The part of it that the reservation did not cover is
        booked too and counted as overdraft, also when it passes a limit. So is the cost of a
        lease that was released, and, of a lease that was charged when it expired, whatever the
        charge did not cover. The same commit again changes nothing.

        Returns:
            Whether this call settled the lease; `False` if it was settled before.

        Raises:
            LedgerError: If the ledger does not know the id, or booked another cost for it.
        """
        ...

    def release(self, lease_id: str) -> bool:
        """Free the reservation: the call was never made, and cost nothing.

        Returns:
            Whether this call settled the lease; `False`, and nothing changes, if the lease was
            settled before or the id is unknown. So it is safe in a `finally`.
        """
        ...

    def expire(self) -> tuple[Lease, ...]:
        """Settle all leases that are over their time, and return them.

        An expired lease is *charged* unless the ledger was built with `on_expiry="refund"`:
        nobody knows that the call was not made. Every other method does this first, too.
        """
        ...

    def snapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """The counters of the accounts, all at one instant, in the order asked for.

        An account that nobody has used has zero in all counters.
        """
        ...


class _AsyncLedger(Protocol):
    """The awaitable half of a `Ledger`: the same rules, method by method."""

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


@runtime_checkable
class Ledger(SyncLedger, _AsyncLedger, Protocol):
    """Where a `Budget` keeps its counters: six methods, each with an async twin.

    The rules stand on the methods of `SyncLedger`. Amounts are integers; time is the ledger's own
    clock, never the caller's.
    """


class AsyncFromSync:
    """Async twins for a ledger whose sync methods never wait for anything but a short lock.

    They do not suspend: a settlement cannot be cut in two by a cancellation.
    """

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
