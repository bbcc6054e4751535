"""Ledgers that break the contract, each in one of the ways that ledgers are known for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from langchain_hybridflow.budget import (
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    MemoryLedger,
    Note,
    Reconciliation,
)
from langchain_hybridflow.testing import ManualClock

# --- what any sequence of calls shows


class ChecksAfterwards(MemoryLedger):
    """Grants whatever is asked, as a counter that is read before and written after a call does."""

    def _first_denial(self, amounts: Amounts, accounts: object) -> Denial | None:
        return None


class ChecksOnlyOneAccount(MemoryLedger):
    """Forgets the parent scopes."""

    def _first_denial(self, amounts: Amounts, accounts: Any) -> Denial | None:
        return super()._first_denial(amounts, accounts[:1])


class ChecksOnlyTheCurrentBucket(MemoryLedger):
    """Starts every bucket of a rolling window with a full limit."""

    def _first_denial(self, amounts: Amounts, accounts: Any) -> Denial | None:
        alone = [replace(account, earlier=()) for account in accounts]
        return super()._first_denial(amounts, alone)


class CountsOnlyWhatIsUsed(MemoryLedger):
    """Does not count what open leases hold."""

    def _first_denial(self, amounts: Amounts, accounts: Any) -> Denial | None:
        for account in accounts:
            used, _ = self._books.used_and_held(account)
            for asked, spent, limit in zip(amounts, used, account.limits, strict=True):
                if limit is not None and asked and asked > limit - spent:
                    return super()._first_denial(amounts, accounts)
        return None


class HoldsWhereItIsGranted(MemoryLedger):
    """Holds in the accounts before the one that denies."""

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        answer = super().reserve(lease_id, amounts, accounts=accounts, ttl_s=ttl_s)
        if isinstance(answer, Denial) and answer.scope != accounts[0].scope:
            self._books.hold(accounts[:1], amounts, self.now())
        return answer


class HoldsReplaysAgain(MemoryLedger):
    """Counts a request twice that is sent twice."""

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        is_replay = lease_id in self._open
        answer = super().reserve(lease_id, amounts, accounts=accounts, ttl_s=ttl_s)
        if is_replay:
            self._books.hold(accounts, amounts, self.now())
        return answer


class UsesIdsAgain(MemoryLedger):
    """Forgets at once which leases were settled."""

    def release(self, lease_id: str) -> bool:
        released = super().release(lease_id)
        self._settled.pop(lease_id, None)
        return released


class LeaksReleases(MemoryLedger):
    """Keeps the reservation of a call that failed."""

    def release(self, lease_id: str) -> bool:
        return lease_id in self._open


class CountsCommitsTwice(MemoryLedger):
    """Books a repeated commit again."""

    def _commit_late(self, lease_id: str, actual: Amounts, now: float) -> None:
        accounts = self._settled[lease_id].accounts
        self._books.settle(accounts, now, held=NOTHING, used=actual, overdraft=NOTHING)


class DropsLateCommits(MemoryLedger):
    """Takes no cost that comes after the lease was settled."""

    def _commit_late(self, lease_id: str, actual: Amounts, now: float) -> None:
        return


class DropsOverdraft(MemoryLedger):
    """Books no more than was reserved."""

    def commit(self, lease_id: str, actual: Amounts) -> bool:
        lease = self._open.get(lease_id)
        if lease is not None:
            covered = (min(pair) for pair in zip(actual, lease.amounts, strict=True))
            actual = Amounts(*covered)
        return super().commit(lease_id, actual)


class HidesOverdraft(MemoryLedger):
    """Books overdraft without saying so."""

    def snapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        return tuple(replace(state, overdraft=NOTHING) for state in super().snapshot(accounts))


class RefundsExpired(MemoryLedger):
    """Takes for granted that a call whose worker died was never made."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock, on_expiry="refund")


class NeverExpires(MemoryLedger):
    """Leaks what a dead worker held."""

    def _settle_expired(self, now: float) -> tuple[Lease, ...]:
        return ()


class ExpiresTooLate(MemoryLedger):
    """Lets a lease live for a moment longer than it said."""

    def _settle_expired(self, now: float) -> tuple[Lease, ...]:
        return super()._settle_expired(now - 0.5)


class ShortensLeases(MemoryLedger):
    """Lets an extension end a lease earlier."""

    def extend(self, lease_id: str, ttl_s: float) -> Lease:
        lease = super().extend(lease_id, ttl_s)
        shorter = replace(lease, expires_at=self.now() + ttl_s)
        self._open[lease_id] = shorter
        return shorter


class SumsOnlyTheCurrentBucket(MemoryLedger):
    """Shows one bucket for the window."""

    def snapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        alone = [replace(account, earlier=()) for account in accounts]
        states = super().snapshot(alone)
        return tuple(replace(s, account=a) for s, a in zip(states, accounts, strict=True))


class ForgetsTooEarly(MemoryLedger):
    """Keeps accounts for half of their time."""

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        halves = [replace(a, keep_s=a.keep_s and a.keep_s / 2) for a in accounts]
        answer = super().reserve(lease_id, amounts, accounts=halves, ttl_s=ttl_s)
        return replace(answer, accounts=tuple(accounts)) if isinstance(answer, Lease) else answer


class ForgetsWhatIsOpen(MemoryLedger):
    """Forgets an account that has open leases."""

    def _begin(self) -> float:
        for key in self._books._counter_ages.over(self.now(), {}):
            self._books._counters.pop(key, None)
            self._books._journal.forget(key)
        return super()._begin()


class ForgetsHalf(MemoryLedger):
    """Forgets what was used, and not the overdraft."""

    def _begin(self) -> float:
        now = self.now()
        self._settle_expired(now)
        for key, age in self._books._counter_ages._ages.items():
            counters = self._books._counters[key]
            if age.keep_s is not None and age.touched_at + age.keep_s <= now:
                counters.used = [0, 0, 0]
        return now


class WritesNoJournal(MemoryLedger):
    """Counts what it does not write down."""

    def _commit_late(self, lease_id: str, actual: Amounts, now: float) -> None:
        journal, self._books._journal = self._books._journal, type(self._books._journal)()
        super()._commit_late(lease_id, actual, now)
        self._books._journal = journal


class SeesNoDifference(MemoryLedger):
    """Says that everything is right, and repairs nothing."""

    def reconcile(self, *, repair: bool = False) -> Reconciliation:
        return Reconciliation(0)


class LosesNotes(MemoryLedger):
    """Lets the last one win, whatever it had read."""

    def swap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        standing = self._books._notes.get(key) or Note()
        return super().swap_note(key, expected_version=standing.version, text=text, keep_s=keep_s)


class NeverCountsNotes(MemoryLedger):
    """Leaves the version of a note as it was."""

    def swap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        super().swap_note(key, expected_version=expected_version, text=text, keep_s=keep_s)
        note = self._books._notes[key] = Note(1, text)
        return note


class StandsStill(MemoryLedger):
    """Says a time that does not pass."""

    def now(self) -> float:
        return self.__dict__.setdefault("_first", super().now())


class DropsAsyncCommits(MemoryLedger):
    """Has an async twin that does not do what it is a twin of."""

    async def acommit(self, lease_id: str, actual: Amounts) -> bool:
        return lease_id in self._open


# --- what only races and cancellations show


class ReadsThenWrites(MemoryLedger):
    """Lets go of its lock between the check and the reservation."""

    def _hold(self, lease_id: str, amounts: Amounts, accounts: Sequence[Account]) -> Lease | Denial:
        free = [Account(account.key, account.scope) for account in accounts]
        return super().reserve(lease_id, amounts, accounts=free, ttl_s=600)

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        denial = self._first_denial(amounts, accounts)
        time.sleep(0.001)  # so that the others read now
        return denial or self._hold(lease_id, amounts, accounts)

    async def areserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        denial = self._first_denial(amounts, accounts)
        await asyncio.sleep(0)
        return denial or self._hold(lease_id, amounts, accounts)


class SwapsUnlocked(MemoryLedger):
    """Lets go of its lock between reading a note and writing it."""

    def swap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        standing = self._books._notes.get(key) or Note()
        if standing.version != expected_version:
            return standing
        time.sleep(0.001)  # so that the others read now
        note = self._books._notes[key] = Note(expected_version + 1, text)
        return note


class HasAPlainLock(MemoryLedger):
    """Hangs when the garbage collector settles a lease."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self._lock = threading.Lock()  # type: ignore[assignment]


class LeaksWhenCancelled(MemoryLedger):
    """Is asked, grants, and nobody hears the answer."""

    async def areserve(self, *args: Any, **kwargs: Any) -> Lease | Denial:
        answer = self.reserve(*args, **kwargs)
        await asyncio.sleep(0)
        return answer


class FreesTooMuchWhenCancelled(MemoryLedger):
    """Frees a lease that somebody else has opened."""

    async def areserve(self, *args: Any, **kwargs: Any) -> Lease | Denial:
        answer = self.reserve(*args, **kwargs)
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.release(args[0])
            raise
        return answer


class CommitsInTwoSteps(MemoryLedger):
    """Frees first and books afterwards, and may be cut off in between."""

    async def acommit(self, lease_id: str, actual: Amounts) -> bool:
        self.release(lease_id)
        await asyncio.sleep(0)
        return self.commit(lease_id, actual)


class ClosesForGood(MemoryLedger):
    """Cannot be closed twice."""

    def close(self) -> None:
        del self._books
