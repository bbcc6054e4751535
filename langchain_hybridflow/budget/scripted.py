"""Both faces of a ledger that stands on another one, from one script for each method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_hybridflow.budget.ledger import Ledger
from langchain_hybridflow.budget.twins import Script, ado, do
from langchain_hybridflow.budget.types import (
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    Note,
    Reconciliation,
)

__all__ = ["ScriptedLedger"]


class ScriptedLedger(ABC):
    """A ledger in front of another one: a subclass writes the scripts, and has both faces.

    Attributes:
        ledger: The ledger behind.
    """

    ledger: Ledger

    @abstractmethod
    def _now(self) -> Script[float]: ...

    @abstractmethod
    def _reserve(
        self, lease_id: str, amounts: Amounts, accounts: tuple[Account, ...], ttl_s: float
    ) -> Script[Lease | Denial]: ...

    @abstractmethod
    def _extend(self, lease_id: str, ttl_s: float) -> Script[Lease]: ...

    @abstractmethod
    def _settle(self, lease_id: str, actual: Amounts | None) -> Script[bool]: ...

    @abstractmethod
    def _expire(self) -> Script[tuple[Lease, ...]]: ...

    @abstractmethod
    def _snapshot(self, accounts: tuple[Account, ...]) -> Script[tuple[AccountState, ...]]: ...

    @abstractmethod
    def _swap_note(self, key: str, options: Mapping[str, Any]) -> Script[Note]: ...

    @abstractmethod
    def _reconcile(self, *, repair: bool) -> Script[Reconciliation]: ...

    @abstractmethod
    def _closing(self) -> Script[None]: ...

    def now(self) -> float:
        """The time of the store."""
        return do(self.ledger, self._now())

    async def anow(self) -> float:
        """Do what `now` does, without blocking the event loop."""
        return await ado(self.ledger, self._now())

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Hold `amounts` in all accounts, or in none."""
        return do(self.ledger, self._reserve(lease_id, amounts, tuple(accounts), ttl_s))

    async def areserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Do what `reserve` does, without blocking the event loop."""
        return await ado(self.ledger, self._reserve(lease_id, amounts, tuple(accounts), ttl_s))

    def extend(self, lease_id: str, ttl_s: float) -> Lease:
        """Let an open lease expire later."""
        return do(self.ledger, self._extend(lease_id, ttl_s))

    async def aextend(self, lease_id: str, ttl_s: float) -> Lease:
        """Do what `extend` does, without blocking the event loop."""
        return await ado(self.ledger, self._extend(lease_id, ttl_s))

    def commit(self, lease_id: str, actual: Amounts) -> bool:
        """Book what the call cost and free the rest of the reservation."""
        return do(self.ledger, self._settle(lease_id, actual))

    async def acommit(self, lease_id: str, actual: Amounts) -> bool:
        """Do what `commit` does, without blocking the event loop."""
        return await ado(self.ledger, self._settle(lease_id, actual))

    def release(self, lease_id: str) -> bool:
        """Free the reservation: the call was never made."""
        return do(self.ledger, self._settle(lease_id, None))

    async def arelease(self, lease_id: str) -> bool:
        """Do what `release` does, without blocking the event loop."""
        return await ado(self.ledger, self._settle(lease_id, None))

    def expire(self) -> tuple[Lease, ...]:
        """Settle all leases that are over their time."""
        return do(self.ledger, self._expire())

    async def aexpire(self) -> tuple[Lease, ...]:
        """Do what `expire` does, without blocking the event loop."""
        return await ado(self.ledger, self._expire())

    def snapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """The counters of the accounts, in the order asked for."""
        return do(self.ledger, self._snapshot(tuple(accounts)))

    async def asnapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """Do what `snapshot` does, without blocking the event loop."""
        return await ado(self.ledger, self._snapshot(tuple(accounts)))

    def swap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        """Write the note of an account, unless somebody else was faster."""
        options = {"expected_version": expected_version, "text": text, "keep_s": keep_s}
        return do(self.ledger, self._swap_note(key, options))

    async def aswap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        """Do what `swap_note` does, without blocking the event loop."""
        options = {"expected_version": expected_version, "text": text, "keep_s": keep_s}
        return await ado(self.ledger, self._swap_note(key, options))

    def reconcile(self, *, repair: bool = False) -> Reconciliation:
        """Compare all counters with what the journal and the open leases say."""
        return do(self.ledger, self._reconcile(repair=repair))

    async def areconcile(self, *, repair: bool = False) -> Reconciliation:
        """Do what `reconcile` does, without blocking the event loop."""
        return await ado(self.ledger, self._reconcile(repair=repair))

    def close(self) -> None:
        """Free connections; harmless when done twice."""
        do(self.ledger, self._closing())

    async def aclose(self) -> None:
        """Do what `close` does, without blocking the event loop."""
        await ado(self.ledger, self._closing())
