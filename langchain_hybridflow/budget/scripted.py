"""Both faces of a ledger, from one script for each method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from langchain_hybridflow.budget.share import Refill, check_refills
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

T = TypeVar("T")
_Script: TypeAlias = Generator[Any, Any, T]


class ScriptedLedger(ABC):
    """A ledger whose methods are scripts: generators that do no IO, see `twins`.

    A subclass writes the scripts, and says how what they yield is done, blocking and awaiting.
    """

    @abstractmethod
    def _do(self, script: _Script[T]) -> T: ...

    @abstractmethod
    async def _ado(self, script: _Script[T]) -> T: ...

    @abstractmethod
    def _now(self) -> _Script[float]: ...

    @abstractmethod
    def _reserve(
        self, lease_id: str, amounts: Amounts, accounts: tuple[Account, ...], ttl_s: float
    ) -> _Script[Lease | Denial]: ...

    @abstractmethod
    def _extend(self, lease_id: str, ttl_s: float) -> _Script[Lease]: ...

    @abstractmethod
    def _settle(self, lease_id: str, actual: Amounts | None) -> _Script[bool]:
        """Commit what a call cost; without a cost, release."""

    @abstractmethod
    def _expire(self) -> _Script[tuple[Lease, ...]]: ...

    @abstractmethod
    def _snapshot(self, accounts: tuple[Account, ...]) -> _Script[tuple[AccountState, ...]]: ...

    @abstractmethod
    def _swap_note(
        self, key: str, expected_version: int, text: str, keep_s: float | None
    ) -> _Script[Note]: ...

    @abstractmethod
    def _refill(self, refill_id: str, refills: tuple[Refill, ...]) -> _Script[bool]: ...

    @abstractmethod
    def _reconcile(self, *, repair: bool) -> _Script[Reconciliation]: ...

    @abstractmethod
    def close(self) -> None:
        """Free connections; harmless when done twice."""

    @abstractmethod
    async def aclose(self) -> None:
        """Do what `close` does, without blocking the event loop."""

    def now(self) -> float:
        """The time of the store, in epoch seconds; only the first call may ask it.

        Raises:
            LedgerUnavailable: If the store does not answer.
        """
        return self._do(self._now())

    async def anow(self) -> float:
        """Do what `now` does, without blocking the event loop."""
        return await self._ado(self._now())

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Hold `amounts` in all accounts, or in none; see `SyncLedger.reserve`.

        Raises:
            LedgerError: If the id is open with other amounts or accounts, or was settled before;
                if an account is named twice, or the time to live is not positive; if the store
                cannot count that far.
            LedgerUnavailable: If the store does not answer.
        """
        return self._do(self._reserve(lease_id, amounts, tuple(accounts), ttl_s))

    async def areserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Do what `reserve` does, without blocking the event loop."""
        return await self._ado(self._reserve(lease_id, amounts, tuple(accounts), ttl_s))

    def extend(self, lease_id: str, ttl_s: float) -> Lease:
        """Let an open lease expire `ttl_s` seconds from now; never earlier than before.

        Raises:
            LedgerError: If the lease is not open, or the time to live is not positive.
            LedgerUnavailable: If the store does not answer.
        """
        return self._do(self._extend(lease_id, ttl_s))

    async def aextend(self, lease_id: str, ttl_s: float) -> Lease:
        """Do what `extend` does, without blocking the event loop."""
        return await self._ado(self._extend(lease_id, ttl_s))

    def commit(self, lease_id: str, actual: Amounts) -> bool:
        """Book what the call cost and free the rest; see `SyncLedger.commit`.

        Raises:
            LedgerError: If the id is unknown, or another cost was booked for it.
            LedgerUnavailable: If the store does not answer.
        """
        return self._do(self._settle(lease_id, actual))

    async def acommit(self, lease_id: str, actual: Amounts) -> bool:
        """Do what `commit` does, without blocking the event loop."""
        return await self._ado(self._settle(lease_id, actual))

    def release(self, lease_id: str) -> bool:
        """Free the reservation: the call was never made; see `SyncLedger.release`.

        Raises:
            LedgerUnavailable: If the store does not answer.
        """
        return self._do(self._settle(lease_id, None))

    async def arelease(self, lease_id: str) -> bool:
        """Do what `release` does, without blocking the event loop."""
        return await self._ado(self._settle(lease_id, None))

    def expire(self) -> tuple[Lease, ...]:
        """Settle all leases that are over their time, and return them.

        Raises:
            LedgerUnavailable: If the store does not answer.
        """
        return self._do(self._expire())

    async def aexpire(self) -> tuple[Lease, ...]:
        """Do what `expire` does, without blocking the event loop."""
        return await self._ado(self._expire())

    def snapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """The counters of the accounts, all at one instant, in the order asked for.

        Raises:
            LedgerUnavailable: If the store does not answer.
        """
        return self._do(self._snapshot(tuple(accounts)))

    async def asnapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """Do what `snapshot` does, without blocking the event loop."""
        return await self._ado(self._snapshot(tuple(accounts)))

    def swap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        """Write the note of an account, unless somebody else was faster; see `SyncLedger`.

        Raises:
            LedgerError: If the text is too long, or the version negative.
            LedgerUnavailable: If the store does not answer.
        """
        return self._do(self._swap_note(key, expected_version, text, keep_s))

    async def aswap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        """Do what `swap_note` does, without blocking the event loop."""
        return await self._ado(self._swap_note(key, expected_version, text, keep_s))

    def refill(self, refill_id: str, refills: Sequence[Refill]) -> bool:
        """Count an answered prompt in some accounts, once; see `RefillableLedger.refill`.

        Raises:
            LedgerError: An account is named twice, or the id is that of an open lease.
            LedgerUnavailable: If the store does not answer.
        """
        return self._do(self._refill(refill_id, check_refills(refill_id, refills)))

    async def arefill(self, refill_id: str, refills: Sequence[Refill]) -> bool:
        """Do what `refill` does, without blocking the event loop."""
        return await self._ado(self._refill(refill_id, check_refills(refill_id, refills)))

    def reconcile(self, *, repair: bool = False) -> Reconciliation:
        """Compare all counters with what the journal and the open leases say.

        Raises:
            LedgerUnavailable: If the store does not answer.
        """
        return self._do(self._reconcile(repair=repair))

    async def areconcile(self, *, repair: bool = False) -> Reconciliation:
        """Do what `reconcile` does, without blocking the event loop."""
        return await self._ado(self._reconcile(repair=repair))
