"""What keeps the tables of SQLite small, and what finds out whether they are right."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence

from langchain_hybridflow.budget.rules import differences_of
from langchain_hybridflow.budget.stores._shared import BATCH, accounts_from_json
from langchain_hybridflow.budget.stores._sqlite_statements import statements
from langchain_hybridflow.budget.types import Column, Reconciliation

__all__ = ["SQLiteChores"]


class SQLiteChores:
    """Clear away old records in small steps, and reconcile counters and journal.

    Args:
        namespace: Start of the names of the tables.
        settled_keep_s: How long settled leases are remembered.
    """

    def __init__(self, namespace: str, settled_keep_s: float) -> None:
        self._sql = statements(namespace)
        self._settled_keep_s = settled_keep_s

    def run(self, db: sqlite3.Connection, now: float) -> None:
        """Clear away at most `BATCH` records of each kind."""
        self._sum_up(db, now)
        self._forget(db, now)
        db.execute(self._sql["forget_notes"], (now, BATCH))

    def reconcile(self, db: sqlite3.Connection, now: float, *, repair: bool) -> Reconciliation:
        """Compare the counters with opening balances and leases."""
        counted = {key: row for key, *row in db.execute(self._sql["counted"])}
        journal = {key: row for key, *row in db.execute(self._sql["journal"])}
        differences = differences_of(_columns(counted), _columns(journal))
        if repair:
            for key in sorted({difference.key for difference in differences}):
                row = journal.get(key, [0] * 10)
                db.execute(self._sql["set"], (key, *row, now))
        return Reconciliation(
            accounts_checked=len(counted.keys() | journal.keys()),
            differences=differences,
            repaired=repair and bool(differences),
        )

    def _sum_up(self, db: sqlite3.Connection, now: float) -> None:
        """Turn settled leases, the oldest lines of the journal, into opening balances."""
        old = db.execute(self._sql["old"], (now - self._settled_keep_s, BATCH)).fetchall()
        if not old:
            return
        sums: defaultdict[str, list[int]] = defaultdict(lambda: [0] * 6)
        for _, accounts, *booked in old:
            for account in accounts_from_json(accounts):
                total = sums[account.key]
                total[:] = [mine + more for mine, more in zip(total, booked, strict=True)]
        db.executemany(self._sql["drop"], [(row[0],) for row in old])
        self._carry(db, [(key, *total) for key, total in sums.items()])

    def _forget(self, db: sqlite3.Connection, now: float) -> None:
        """Delete counters that nobody has touched for as long as they are to be kept."""
        for key, leases, written_at, keep_s, *counted in db.execute(
            self._sql["quiet"], (now, BATCH)
        ).fetchall():
            if leases or written_at + keep_s > now:
                look_at = now + keep_s if leases else written_at + keep_s
                db.execute(self._sql["look_later"], (look_at, key))
                continue
            db.execute(self._sql["forget"], (key,))
            # Leases that are still remembered stay in the journal: this line takes them back.
            self._carry(db, [(key, *(-count for count in counted))])

    def _carry(self, db: sqlite3.Connection, rows: Sequence[tuple[str | int, ...]]) -> None:
        db.executemany(self._sql["carry"], rows)
        db.executemany(self._sql["drop_zero"], [row[:1] for row in rows])


def _columns(rows: Mapping[str, Sequence[int]]) -> dict[str, dict[Column, Sequence[int]]]:
    return {
        key: {"used": row[0:3], "held": row[3:6], "overdraft": row[6:9]}
        for key, row in rows.items()
    }
