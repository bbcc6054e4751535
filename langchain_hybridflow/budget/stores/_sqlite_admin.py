"""The administration of a SQLite ledger, inside a transaction that somebody else begins."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from langchain_hybridflow.budget.admin import Reset, archive_of, still_in_use
from langchain_hybridflow.budget.stores._shared import accounts_from_json
from langchain_hybridflow.budget.stores._sqlite_statements import named, statements
from langchain_hybridflow.budget.types import NOTHING, Amounts, Lease

__all__ = ["SQLiteAdmin"]

_STATEMENTS: Final[Mapping[str, str]] = {
    # Not LIKE: that knows no difference between "a" and "A".
    "keys": """
        SELECT key FROM NS_counters WHERE key >= :prefix AND substr(key, 1, :length) = :prefix
        UNION
        SELECT key FROM NS_notes WHERE key >= :prefix AND substr(key, 1, :length) = :prefix""",
    "open": """
        SELECT id, usd, tokens, calls, accounts, expires_at FROM NS_leases
        WHERE state = 0 ORDER BY expires_at, id""",
    "counted": """
        SELECT leases, used_usd, used_tokens, used_calls, over_usd, over_tokens, over_calls
        FROM NS_counters WHERE key = ?""",
    "take": """
        UPDATE NS_counters SET used_usd = used_usd - ?, used_tokens = used_tokens - ?,
               used_calls = used_calls - ?, over_usd = over_usd - ?, over_tokens = over_tokens - ?,
               over_calls = over_calls - ?
        WHERE key = ?""",
    "give": """
        INSERT INTO NS_counters
        VALUES (:key, :u, :t, :c, 0, 0, 0, :ou, :ot, :oc, 0, :now, NULL, NULL)
        ON CONFLICT (key) DO UPDATE SET used_usd = used_usd + :u, used_tokens = used_tokens + :t,
               used_calls = used_calls + :c, over_usd = over_usd + :ou,
               over_tokens = over_tokens + :ot, over_calls = over_calls + :oc""",
}


class SQLiteAdmin:
    """List, look, and reset, in SQL.

    Args:
        namespace: Start of the names of the tables.
    """

    def __init__(self, namespace: str) -> None:
        self._sql = {**statements(namespace), **_statements(namespace)}

    def list_keys(self, db: sqlite3.Connection, prefix: str) -> tuple[str, ...]:
        """All keys that begin so and have counters or a note."""
        values = {"prefix": prefix, "length": len(prefix)}
        return tuple(sorted(key for (key,) in db.execute(self._sql["keys"], values)))

    def open_leases(self, db: sqlite3.Connection, key: str | None) -> tuple[Lease, ...]:
        """The open leases, the next to expire first."""
        leases = (
            Lease(lease_id, Amounts(*amounts), accounts_from_json(accounts), expires_at)
            for lease_id, *amounts, accounts, expires_at in db.execute(self._sql["open"])
        )
        return tuple(
            lease
            for lease in leases
            if key is None or any(account.key == key for account in lease.accounts)
        )

    def reset(self, db: sqlite3.Connection, now: float, key: str, *, force: bool) -> Reset:
        """Move what is booked under a key, in counters and journal."""
        archive = archive_of(key)
        row = db.execute(self._sql["counted"], (key,)).fetchone()
        if row is None:
            return Reset(key, archive, NOTHING, NOTHING, 0)
        leases, *numbers = row
        if leases and not force:
            raise still_in_use(key, leases)
        if any(numbers):
            db.execute(self._sql["take"], (*numbers, key))
            names = ("u", "t", "c", "ou", "ot", "oc")
            moved = dict(zip(names, numbers, strict=True))
            db.execute(self._sql["give"], {"key": archive, "now": now, **moved})
            # In the journal as in the counters.
            db.execute(self._sql["carry"], (key, *(-number for number in numbers)))
            db.execute(self._sql["drop_zero"], (key,))
            db.execute(self._sql["carry"], (archive, *numbers))
        return Reset(key, archive, Amounts(*numbers[:3]), Amounts(*numbers[3:]), leases)


@lru_cache(maxsize=64)
def _statements(namespace: str) -> Mapping[str, str]:
    return {name: named(text, namespace) for name, text in _STATEMENTS.items()}
