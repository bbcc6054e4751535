"""The rules of a ledger on the tables of SQLite, inside a transaction that somebody else begins.

Counters are only ever changed by differences, and a lease is settled by an UPDATE that demands that
it is open. So a settlement that the garbage collector makes in the middle of another method, on the
same connection, is safe.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from langchain_hybridflow.budget.rules import (
    Ending,
    OnExpiry,
    already_settled,
    check_replay,
    first_denial,
    not_open,
    other_cost,
    unknown_lease,
)
from langchain_hybridflow.budget.share import Refill, Stash, taken_id
from langchain_hybridflow.budget.stores._shared import (
    BATCH,
    accounts_from_json,
    accounts_to_json,
    states_of,
)
from langchain_hybridflow.budget.stores._sqlite_statements import (
    COMMITTED,
    EXPIRED,
    OPEN,
    RELEASED,
    for_keys,
    statements,
)
from langchain_hybridflow.budget.types import (
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    Note,
)

__all__ = ["SQLiteBook"]

_ENDINGS: Final[Mapping[int, Ending]] = {
    COMMITTED: "committed",
    RELEASED: "released",
    EXPIRED: "expired",
}


class _Row(NamedTuple):
    """A lease as it is written down."""

    lease: Lease
    state: int
    used: Sequence[int]
    actual: Amounts | None


class SQLiteBook:
    """Reserve and settle, in SQL.

    Args:
        namespace: Start of the names of the tables.
        on_expiry: What happens to leases that nobody settles.
    """

    def __init__(self, namespace: str, on_expiry: OnExpiry) -> None:
        self._sql = statements(namespace)
        self._on_expiry = on_expiry

    def reserve(
        self,
        db: sqlite3.Connection,
        now: float,
        lease: Lease,
    ) -> tuple[Lease | Denial, bool]:
        """Open the lease or say why not; and whether it is new."""
        known = self._known(db, now, lease.id)
        if known is not None:
            return _replayed(known, lease), False
        rows = self._rows(db, lease.accounts)
        for account in lease.accounts:
            denial = first_denial(lease.amounts, account, *_sums(rows, account))
            if denial is not None:
                return denial, False
        db.execute(
            self._sql["open"],
            (lease.id, *lease.amounts, accounts_to_json(lease.accounts), lease.expires_at),
        )
        for account in lease.accounts:
            self._hold(db, now, account, lease.amounts, rows.get(account.key))
        return lease, True

    def extend(self, db: sqlite3.Connection, now: float, lease_id: str, ttl_s: float) -> Lease:
        """Let an open lease live longer."""
        known = self._known(db, now, lease_id)
        if known is None or known.state != OPEN:
            raise not_open(lease_id)
        lease = known.lease
        expires_at = max(lease.expires_at, now + ttl_s)
        db.execute(self._sql["extend"], (expires_at, lease_id))
        return Lease(lease_id, lease.amounts, lease.accounts, expires_at)

    def commit(self, db: sqlite3.Connection, now: float, lease_id: str, actual: Amounts) -> bool:
        """Book what a call cost."""
        known = self._known(db, now, lease_id)
        if known is None:
            raise unknown_lease(lease_id, actual)
        if known.state == OPEN:
            settled = self._settle(db, now, known.lease, COMMITTED, booked=actual, actual=actual)
            return settled or self.commit(db, now, lease_id, actual)
        if known.actual is None:
            self._commit_late(db, now, known, actual)
        elif known.actual != actual:
            raise other_cost(lease_id, first=known.actual, now=actual)
        return False

    def release(self, db: sqlite3.Connection, now: float, lease_id: str) -> bool:
        """Free what a call that was not made would have cost."""
        known = self._known(db, now, lease_id)
        if known is None or known.state != OPEN:
            return False
        return self._settle(db, now, known.lease, RELEASED, booked=NOTHING)

    def expire(self, db: sqlite3.Connection, now: float) -> list[Lease]:
        """Settle leases that are over their time, `BATCH` of them at most."""
        rows = db.execute(self._sql["over"], (now, BATCH)).fetchall()
        leases = [
            Lease(lease_id, Amounts(*amounts), accounts_from_json(accounts), expires_at)
            for lease_id, *amounts, accounts, expires_at in rows
        ]
        return [lease for lease in leases if self._settle_expired(db, now, lease)]

    def states(
        self, db: sqlite3.Connection, now: float, accounts: Sequence[Account]
    ) -> tuple[AccountState, ...]:
        """The counters of accounts, and their notes."""
        keys = list(dict.fromkeys(key for account in accounts for key in account.keys))
        rows = db.execute(for_keys(self._sql["states"], len(keys)), keys).fetchall() if keys else []
        return states_of(accounts, {row[0]: row[1:] for row in rows}, at=now)

    def swap_note(
        self, db: sqlite3.Connection, now: float, key: str, note: Note, keep_s: float | None
    ) -> Note:
        """Write a note, if it comes after the one that stands."""
        row = db.execute(self._sql["note"], (key,)).fetchone()
        standing = Note() if row is None else Note(*row)
        if standing.version != note.version - 1:
            return standing
        forget_at = None if keep_s is None else now + keep_s
        db.execute(self._sql["write_note"], (key, note.version, note.text, forget_at))
        return note

    def refill(
        self, db: sqlite3.Connection, now: float, refill_id: str, refills: Sequence[Refill]
    ) -> bool:
        """Count an answered prompt, unless it was counted before."""
        if not db.execute(self._sql["refilled"], (refill_id, now, now)).rowcount:
            known = self._known(db, now, refill_id)
            if known is not None and known.state == OPEN:
                raise taken_id(refill_id)
            return False
        for refill in refills:
            used, overdraft = db.execute(self._sql["calls"], (refill.key,)).fetchone() or (0, 0)
            row = db.execute(self._sql["note"], (refill.key,)).fetchone()
            stash = Stash.of(None if row is None else Note(*row))
            back, stash = stash.refill(used=used, micro_calls=refill.micro_calls)
            forget_at = None if refill.keep_s is None else now + refill.keep_s
            note = stash.note
            db.execute(self._sql["write_note"], (refill.key, note.version, note.text, forget_at))
            if back:
                uncovered = max(0, overdraft - (used - back))
                db.execute(self._sql["give_back"], (back, uncovered, now, refill.key))
                # In the journal as in the counters.
                db.execute(self._sql["carry"], (refill.key, 0, 0, -back, 0, 0, -uncovered))
                db.execute(self._sql["drop_zero"], (refill.key,))
        return True

    def _known(self, db: sqlite3.Connection, now: float, lease_id: str) -> _Row | None:
        """The lease as it stands now: over its time, it has expired, whoever else waits to."""
        row = db.execute(self._sql["lease"], (lease_id,)).fetchone()
        if row is None:
            return None
        state, accounts, expires_at = row[:3]
        lease = Lease(lease_id, Amounts(*row[3:6]), accounts_from_json(accounts), expires_at)
        if state == OPEN and expires_at <= now:
            self._settle_expired(db, now, lease)
            return self._known(db, now, lease_id)
        return _Row(lease, state, row[6:9], None if row[9] is None else Amounts(*row[9:12]))

    def _rows(
        self, db: sqlite3.Connection, accounts: Sequence[Account]
    ) -> dict[str, tuple[Any, ...]]:
        keys = list({key for account in accounts for key in account.keys})
        found = db.execute(for_keys(self._sql["counters"], len(keys)), keys).fetchall()
        return {row[0]: row[1:] for row in found}

    def _hold(
        self,
        db: sqlite3.Connection,
        now: float,
        account: Account,
        amounts: Amounts,
        row: tuple[Any, ...] | None,
    ) -> None:
        if row is None:
            self._create(db, now, account, amounts, leases=1)
            return
        db.execute(self._sql["hold"], (*amounts, now, account.key))
        if row[-1] != account.keep_s:
            look_at = None if account.keep_s is None else now + account.keep_s
            db.execute(self._sql["keep"], (account.keep_s, look_at, account.key))

    def _create(
        self, db: sqlite3.Connection, now: float, account: Account, held: Amounts, *, leases: int
    ) -> None:
        look_at = None if account.keep_s is None else now + account.keep_s
        db.execute(self._sql["create"], (account.key, *held, leases, now, account.keep_s, look_at))

    def _settle(
        self,
        db: sqlite3.Connection,
        now: float,
        lease: Lease,
        ending: int,
        *,
        booked: Amounts,
        actual: Amounts | None = None,
    ) -> bool:
        over = booked.excess_over(lease.amounts)
        said = (None, None, None) if actual is None else actual
        settled = db.execute(self._sql["settle"], (ending, now, *booked, *over, *said, lease.id))
        if not settled.rowcount:
            return False
        change = (*booked, *lease.amounts, *over, 1, now)
        for account in lease.accounts:
            if not db.execute(self._sql["book"], (*change, account.key)).rowcount:
                # Somebody has deleted the counters; `reconcile` puts right what they were.
                self._create(db, now, account, lease.amounts, leases=1)
                db.execute(self._sql["book"], (*change, account.key))
        return True

    def _settle_expired(self, db: sqlite3.Connection, now: float, lease: Lease) -> bool:
        booked = lease.amounts if self._on_expiry == "charge" else NOTHING
        return self._settle(db, now, lease, EXPIRED, booked=booked)

    def _commit_late(
        self, db: sqlite3.Connection, now: float, known: _Row, actual: Amounts
    ) -> None:
        lease = known.lease
        uncovered = actual.excess_over(Amounts(*known.used))
        late = (*uncovered, *uncovered, *actual, lease.id)
        if not db.execute(self._sql["settle_late"], late).rowcount:
            self.commit(db, now, lease.id, actual)
            return
        change = (*uncovered, *NOTHING, *uncovered, 0, now)
        for account in lease.accounts:
            if not db.execute(self._sql["book"], (*change, account.key)).rowcount:  # forgotten
                self._create(db, now, account, NOTHING, leases=0)
                db.execute(self._sql["book"], (*change, account.key))


def _replayed(known: _Row, asked: Lease) -> Lease:
    if known.state != OPEN:
        raise already_settled(asked.id, _ENDINGS[known.state])
    check_replay(
        asked.id,
        amounts=asked.amounts,
        accounts=asked.accounts,
        open_amounts=known.lease.amounts,
        open_keys=[account.key for account in known.lease.accounts],
    )
    return known.lease


def _sums(rows: Mapping[str, Sequence[Any]], account: Account) -> tuple[list[int], list[int]]:
    """What was used and what is held, over all keys of an account."""
    found = [row for key in account.keys if (row := rows.get(key)) is not None]
    if len(found) == 1:
        return list(found[0][:3]), list(found[0][3:6])
    return [sum(row[n] for row in found) for n in range(3)], [
        sum(row[n] for row in found) for n in range(3, 6)
    ]
