"""What a ledger must say, kept in the plainest way; the other half of `ledger_state_machine`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from typing import Literal

from langchain_hybridflow.budget import (
    DIMENSIONS,
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Note,
)

__all__ = ["Entry", "LedgerModel"]


@dataclass(slots=True)
class Entry:
    """A lease, and what became of it."""

    amounts: Amounts
    accounts: tuple[Account, ...]
    expires_at: float
    state: Literal["open", "committed", "released", "expired"] = "open"
    booked: Amounts = NOTHING
    actual: Amounts | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(account.key for account in self.accounts)


@dataclass(slots=True)
class LedgerModel:
    """The leases, and for each key what was booked under it, when, and for how long it is kept."""

    on_expiry: Literal["charge", "refund"]
    entries: dict[str, Entry] = field(default_factory=dict)
    notes: dict[str, tuple[Note, float, float | None]] = field(default_factory=dict)
    _booked: dict[str, tuple[Amounts, Amounts]] = field(default_factory=dict)
    _written: dict[str, tuple[float, float | None]] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that were ever written to."""
        return tuple(self._written)

    def state(self, account: Account) -> AccountState:
        """What a snapshot must say about an account, but for `at`."""
        used, overdraft, held = NOTHING, NOTHING, NOTHING
        for key in account.keys:
            key_used, key_overdraft = self._booked.get(key, (NOTHING, NOTHING))
            used, overdraft, held = (
                used + key_used,
                overdraft + key_overdraft,
                held + self._held(key),
            )
        note = self.notes[account.key][0] if account.key in self.notes else None
        return AccountState(account, used, held, overdraft, note=note)

    def _held(self, key: str) -> Amounts:
        leases = (entry for entry in self.entries.values() if entry.state == "open")
        return sum((entry.amounts for entry in leases if key in entry.keys), start=NOTHING)

    def fits(self, amounts: Amounts, accounts: Sequence[Account]) -> bool:
        """Whether a reservation must be granted."""
        return all(
            asked == 0 or left is None or asked <= left
            for account in accounts
            for asked, left in zip(
                amounts, map(self.state(account).remaining, DIMENSIONS), strict=True
            )
        )

    def open(self, lease_id: str, entry: Entry, now: float) -> None:
        """A reservation was granted."""
        self.entries[lease_id] = entry
        self._write(entry, now)

    def settle(
        self,
        entry: Entry,
        state: Literal["committed", "released", "expired"],
        now: float,
        booked: Amounts = NOTHING,
    ) -> None:
        """A lease ended."""
        entry.state, entry.booked = state, booked
        self._book(entry, booked, booked.excess_over(entry.amounts))
        self._write(entry, now)

    def commit_late(self, entry: Entry, actual: Amounts, now: float) -> Amounts:
        """A settled lease was committed; returns what nothing had covered."""
        uncovered = actual.excess_over(entry.booked)
        entry.actual = actual
        if uncovered:
            self._book(entry, uncovered, uncovered)
            self._write(entry, now)
        return uncovered

    def pass_time(self, now: float) -> set[str]:
        """Leases ran out of time; returns their ids."""
        over = {
            lease_id
            for lease_id, entry in self.entries.items()
            if entry.state == "open" and entry.expires_at <= now
        }
        for lease_id in over:
            entry = self.entries[lease_id]
            self.settle(
                entry, "expired", now, entry.amounts if self.on_expiry == "charge" else NOTHING
            )
        return over

    def forgettable(self, now: float) -> tuple[str, ...]:
        """The keys whose counters a ledger may have forgotten."""
        return tuple(
            key
            for key, (written_at, keep_s) in self._written.items()
            if keep_s is not None
            and written_at + keep_s <= now
            and not any(key in e.keys for e in self.entries.values() if e.state == "open")
        )

    def forget(self, key: str, but: Amounts) -> None:
        """A ledger has forgotten a key, before this much was booked late under it."""
        self._booked[key] = (but, but)

    def possible_notes(self, key: str, now: float) -> set[Note]:
        """The notes that may stand; version 0 is none."""
        if key not in self.notes:
            return {Note()}
        note, written_at, keep_s = self.notes[key]
        over = keep_s is not None and written_at + keep_s <= now
        return {note, Note()} if over else {note}

    def refill(self, key: str, part: Fraction, now: float) -> None:
        """A prompt was answered."""
        used, overdraft = self._booked.get(key, (NOTHING, NOTHING))
        before = self.notes[key][0] if key in self.notes else Note(0, "0 0")
        aside, given = map(int, before.text.split())
        drained = max(Fraction(0), used.cloud_calls - Fraction(aside, 1_000_000) - part)
        calls = ceil(drained)
        back = used.cloud_calls - calls
        note = Note(before.version + 1, f"{(calls - drained) * 1_000_000} {given + back}")
        self.notes[key] = (note, now, None)
        if back:
            uncovered = min(overdraft.cloud_calls, calls)
            self._booked[key] = (
                replace(used, cloud_calls=calls),
                replace(overdraft, cloud_calls=uncovered),
            )

    def _book(self, entry: Entry, used: Amounts, overdraft: Amounts) -> None:
        for key in entry.keys:
            key_used, key_overdraft = self._booked.get(key, (NOTHING, NOTHING))
            self._booked[key] = (key_used + used, key_overdraft + overdraft)

    def _write(self, entry: Entry, now: float) -> None:
        for account in entry.accounts:
            self._written[account.key] = (now, account.keep_s)
