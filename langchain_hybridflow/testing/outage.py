"""A ledger whose store can be switched off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from langchain_hybridflow.budget import (
    Account,
    AccountState,
    Amounts,
    AsyncFromSync,
    Denial,
    Lease,
    MemoryLedger,
    Note,
    Reconciliation,
    Refill,
)
from langchain_hybridflow.errors import LedgerUnavailable

__all__ = ["OutageLedger"]

T = TypeVar("T")


class OutageLedger(AsyncFromSync):
    """A ledger in memory that does not answer when it is told not to; its counters stay.

    For tests of what happens while the store of a budget is down. `state` is "up", "down" (nothing
    is carried out) or "deaf" (commands are carried out, and the replies are lost).

    Args:
        ledger: Where it counts.

    Example:
        >>> from langchain_hybridflow.budget import Budget
        >>> ledger = OutageLedger()
        >>> budget = Budget(max_cloud_calls=3, ledger=ledger)
        >>> ledger.state = "down"
        >>> budget.check()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        langchain_hybridflow.errors.LedgerUnavailable: The ledger at memory://outage ...
    """

    def __init__(self, ledger: MemoryLedger | None = None) -> None:
        self.ledger = ledger or MemoryLedger()
        self.state: Literal["up", "down", "deaf"] = "up"
        self.asked = 0

    def _answer(self, command: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        self.asked += 1
        if self.state == "down":
            raise LedgerUnavailable("memory://outage", "switched off")
        reply = command(*args, **kwargs)
        if self.state == "deaf":
            raise LedgerUnavailable("memory://outage", "the reply was lost")
        return reply

    def now(self) -> float:
        """The time of the store; it is known without asking."""
        return self.ledger.now()

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Hold `amounts` in all accounts, or in none."""
        return self._answer(self.ledger.reserve, lease_id, amounts, accounts=accounts, ttl_s=ttl_s)

    def extend(self, lease_id: str, ttl_s: float) -> Lease:
        """Let an open lease expire later."""
        return self._answer(self.ledger.extend, lease_id, ttl_s)

    def commit(self, lease_id: str, actual: Amounts) -> bool:
        """Book what the call cost."""
        return self._answer(self.ledger.commit, lease_id, actual)

    def release(self, lease_id: str) -> bool:
        """Free the reservation."""
        return self._answer(self.ledger.release, lease_id)

    def expire(self) -> tuple[Lease, ...]:
        """Settle all leases that are over their time."""
        return self._answer(self.ledger.expire)

    def snapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """The counters of the accounts."""
        return self._answer(self.ledger.snapshot, accounts)

    def swap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        """Write the note of an account."""
        return self._answer(
            self.ledger.swap_note,
            key,
            expected_version=expected_version,
            text=text,
            keep_s=keep_s,
        )

    def refill(self, refill_id: str, refills: Sequence[Refill]) -> bool:
        """Count an answered prompt in some accounts."""
        return self._answer(self.ledger.refill, refill_id, refills)

    async def arefill(self, refill_id: str, refills: Sequence[Refill]) -> bool:
        """Do what `refill` does."""
        return self.refill(refill_id, refills)

    def reconcile(self, *, repair: bool = False) -> Reconciliation:
        """Compare all counters with the journal."""
        return self._answer(self.ledger.reconcile, repair=repair)

    def close(self) -> None:
        """Do nothing: there is no connection."""
