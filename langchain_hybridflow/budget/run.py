"""One run's share in a budget: its reservations, its own limits, its clock."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from decimal import Decimal

from langchain_hybridflow.budget.ledger import AsyncFromSync, Ledger
from langchain_hybridflow.budget.snapshot import BudgetSnapshot
from langchain_hybridflow.budget.types import (
    NOTHING,
    Account,
    Amounts,
    Denial,
    Lease,
    micros_to_usd,
)
from langchain_hybridflow.errors import BudgetExceeded

__all__ = ["RunBudget"]


class RunBudget:
    """What one run reserves and spends; made by `Budget.start_run`, safe to share by threads.

    A reservation that costs nothing in any dimension (an edge call without a price) never goes
    to the ledger.

    Example:
        >>> from langchain_hybridflow.budget import Amounts, Budget
        >>> run = Budget(max_cloud_calls=1).start_run()
        >>> lease = run.reserve("subtask-1/cloud/1", Amounts(cloud_tokens=300, cloud_calls=1))
        >>> run.commit(lease, Amounts(cloud_tokens=120, cloud_calls=1))
        >>> run.snapshot().tokens_used
        120
    """

    def __init__(
        self,
        *,
        run_id: str,
        ledger: Ledger,
        accounts: tuple[Account, ...],
        lease_ttl_s: float,
        deadline_s: float | None,
        clock: Callable[[], float],
        elapsed_s: float,
    ) -> None:
        self._run_id = run_id
        self._ledger = ledger
        self._accounts = accounts
        self._lease_ttl_s = lease_ttl_s
        self._deadline_s = deadline_s
        self._clock = clock
        self._started_at = clock() - elapsed_s
        # A run that is resumed buys its unfinished calls anew: the calls of the process before
        # it may have been made, so its leases must be charged on their own, not taken over.
        self._lease_prefix = f"{run_id}/{uuid.uuid4().hex[:12]}/"
        self._lock = threading.RLock()  # reentrant, for the reason given in `MemoryLedger`
        self._unsettled: dict[str, Amounts] = {}
        self._held = [0, 0, 0]
        self._spent = [0, 0, 0]

    @property
    def run_id(self) -> str:
        """Identity of the run."""
        return self._run_id

    @property
    def suspends(self) -> bool:
        """Whether the async methods really wait: a ledger in memory answers at once."""
        return not isinstance(self._ledger, AsyncFromSync)

    @property
    def deadline_s(self) -> float | None:
        """Seconds that the run may take, counted from its start, or `None`."""
        return self._deadline_s

    def elapsed_s(self) -> float:
        """Seconds since the run started, those before a resume included."""
        return self._clock() - self._started_at

    def remaining_s(self) -> float | None:
        """Seconds until the deadline, never negative; `None` without one."""
        if self._deadline_s is None:
            return None
        return max(0.0, self._deadline_s - self.elapsed_s())

    def reserve(self, lease_id: str, amounts: Amounts) -> Lease:
        """Hold the worst case of a call, before the call is made.

        Args:
            lease_id: Identity of the call within this run, such as subtask, tier and attempt.
                Asked for again while it is open, it is the same reservation.
            amounts: What the call can cost at worst; see `Budget.quote`.

        Raises:
            BudgetExceeded: If it would pass a limit; nothing is held then.
            LedgerError: If the id is open with other amounts, or was settled before.
        """
        full_id = self._lease_prefix + lease_id
        if not amounts:
            return Lease(full_id, amounts, (), float("inf"))
        answer = self._ledger.reserve(
            full_id, amounts, accounts=self._accounts, ttl_s=self._lease_ttl_s
        )
        return self._granted(answer)

    def commit(self, lease: Lease, actual: Amounts) -> None:
        """Book what the call really cost, and free the rest of the reservation.

        A cost beyond the reservation is booked as well (as overdraft), and so is one that comes
        after the lease expired.

        Raises:
            LedgerError: If another cost was booked for the lease before.
        """
        if not lease.accounts:
            if not actual:
                return
            self._reserve_late(lease)
        self._ledger.commit(lease.id, actual)
        self._settled(lease, actual)

    def release(self, lease: Lease) -> None:
        """Free the reservation of a call that was not made; harmless after a commit."""
        if lease.accounts:
            self._ledger.release(lease.id)
            self._settled(lease, NOTHING)

    def extend(self, lease: Lease) -> None:
        """Give a long call another full lease time from now.

        Raises:
            LedgerError: If the lease is not open any more.
        """
        if lease.accounts:
            self._ledger.extend(lease.id, self._lease_ttl_s)

    async def areserve(self, lease_id: str, amounts: Amounts) -> Lease:
        """Do what `reserve` does, without blocking the event loop."""
        full_id = self._lease_prefix + lease_id
        if not amounts:
            return Lease(full_id, amounts, (), float("inf"))
        answer = await self._ledger.areserve(
            full_id, amounts, accounts=self._accounts, ttl_s=self._lease_ttl_s
        )
        return self._granted(answer)

    async def acommit(self, lease: Lease, actual: Amounts) -> None:
        """Do what `commit` does, without blocking the event loop."""
        if not lease.accounts:
            if not actual:
                return
            await self._areserve_late(lease)
        await self._ledger.acommit(lease.id, actual)
        self._settled(lease, actual)

    async def arelease(self, lease: Lease) -> None:
        """Do what `release` does, without blocking the event loop."""
        if lease.accounts:
            await self._ledger.arelease(lease.id)
            self._settled(lease, NOTHING)

    async def aextend(self, lease: Lease) -> None:
        """Do what `extend` does, without blocking the event loop."""
        if lease.accounts:
            await self._ledger.aextend(lease.id, self._lease_ttl_s)

    def snapshot(self) -> BudgetSnapshot:
        """The state of this run and of the budget it shares, for a router to read."""
        states = self._ledger.snapshot(self._accounts)
        return BudgetSnapshot.of(
            states, run=self._total(), elapsed_s=self.elapsed_s(), deadline_s=self._deadline_s
        )

    async def asnapshot(self) -> BudgetSnapshot:
        """Do what `snapshot` does, without blocking the event loop."""
        states = await self._ledger.asnapshot(self._accounts)
        return BudgetSnapshot.of(
            states, run=self._total(), elapsed_s=self.elapsed_s(), deadline_s=self._deadline_s
        )

    # A call that was quoted at nothing and cost something all the same is booked as overdraft.

    def _reserve_late(self, lease: Lease) -> None:
        self._ledger.reserve(lease.id, NOTHING, accounts=self._accounts, ttl_s=self._lease_ttl_s)

    async def _areserve_late(self, lease: Lease) -> None:
        await self._ledger.areserve(
            lease.id, NOTHING, accounts=self._accounts, ttl_s=self._lease_ttl_s
        )

    def _granted(self, answer: Lease | Denial) -> Lease:
        if isinstance(answer, Denial):
            raise _exceeded(answer)
        with self._lock:
            if answer.id not in self._unsettled:
                self._unsettled[answer.id] = answer.amounts
                _add(self._held, answer.amounts, sign=1)
        return answer

    def _settled(self, lease: Lease, actual: Amounts) -> None:
        with self._lock:
            held = self._unsettled.pop(lease.id, None)
            if held is None and lease.accounts:
                return  # settled before: this was a replay
            _add(self._spent, actual, sign=1)
            _add(self._held, held or NOTHING, sign=-1)

    def _total(self) -> Amounts:
        with self._lock:
            spent, held = tuple(self._spent), tuple(self._held)
        return Amounts(*(mine + open_ for mine, open_ in zip(spent, held, strict=True)))


def _add(totals: list[int], amounts: Amounts, *, sign: int) -> None:
    totals[0] += sign * amounts.usd_micros
    totals[1] += sign * amounts.cloud_tokens
    totals[2] += sign * amounts.cloud_calls


def _exceeded(denial: Denial) -> BudgetExceeded:
    """The error for a denial, in the units that people use: USD instead of micro-USD."""
    if denial.dimension == "usd_micros":
        requested, remaining, limit = (
            _plain(micros_to_usd(micros))
            for micros in (denial.requested, denial.remaining, denial.limit)
        )
        return BudgetExceeded(
            dimension="usd",
            requested=requested,
            remaining=remaining,
            limit=limit,
            scope=denial.scope,
        )
    return BudgetExceeded(
        dimension=denial.dimension,
        requested=denial.requested,
        remaining=denial.remaining,
        limit=denial.limit,
        scope=denial.scope,
    )


def _plain(usd: Decimal) -> Decimal:
    """Without trailing zeros, and never in exponent notation: 0.05, not 0.050000 or 1E+1."""
    short = usd.normalize()
    return short if int(short.as_tuple().exponent) <= 0 else short.quantize(Decimal(1))
