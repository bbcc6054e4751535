"""The SQL of `SQLiteLedger`: tables and statements, for a namespace.

Four tables. `counters` is what reservations are checked against. `leases` is the journal: a settled
lease keeps what was booked for it, until it is summed up in `openings`, the opening balance of each
key. `notes` belong to the keys, and have no part in the accounts.

The columns of amounts are usd (micro-USD), tokens and calls, always in this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

__all__ = [
    "APPLICATION_ID",
    "COMMITTED",
    "EXPIRED",
    "OPEN",
    "RELEASED",
    "SCHEMA",
    "SCHEMA_VERSION",
    "for_keys",
    "named",
    "statements",
]

APPLICATION_ID: Final = 0x48464C47  # "HFLG": what says that a SQLite file is a ledger
SCHEMA_VERSION: Final = 1

OPEN, COMMITTED, RELEASED, EXPIRED = range(4)

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS NS_clock (seen REAL NOT NULL);
INSERT INTO NS_clock SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM NS_clock);

CREATE TABLE IF NOT EXISTS NS_counters (
  key TEXT PRIMARY KEY,
  used_usd INTEGER NOT NULL, used_tokens INTEGER NOT NULL, used_calls INTEGER NOT NULL,
  held_usd INTEGER NOT NULL, held_tokens INTEGER NOT NULL, held_calls INTEGER NOT NULL,
  over_usd INTEGER NOT NULL, over_tokens INTEGER NOT NULL, over_calls INTEGER NOT NULL,
  leases INTEGER NOT NULL,  -- open ones
  written_at REAL NOT NULL,
  keep_s REAL,
  look_at REAL  -- when to see whether it can be forgotten; moves only when looked at
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS NS_counters_look ON NS_counters (look_at) WHERE look_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS NS_leases (
  id TEXT PRIMARY KEY,
  state INTEGER NOT NULL,  -- 0 open, 1 committed, 2 released, 3 expired
  usd INTEGER NOT NULL, tokens INTEGER NOT NULL, calls INTEGER NOT NULL,
  accounts TEXT NOT NULL,
  expires_at REAL NOT NULL,
  settled_at REAL,
  used_usd INTEGER, used_tokens INTEGER, used_calls INTEGER,
  over_usd INTEGER, over_tokens INTEGER, over_calls INTEGER,
  actual_usd INTEGER, actual_tokens INTEGER, actual_calls INTEGER  -- what a commit said
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS NS_leases_open ON NS_leases (expires_at) WHERE state = 0;
CREATE INDEX IF NOT EXISTS NS_leases_settled ON NS_leases (settled_at) WHERE state > 0;

CREATE TABLE IF NOT EXISTS NS_openings (
  key TEXT PRIMARY KEY,
  used_usd INTEGER NOT NULL, used_tokens INTEGER NOT NULL, used_calls INTEGER NOT NULL,
  over_usd INTEGER NOT NULL, over_tokens INTEGER NOT NULL, over_calls INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS NS_notes (
  key TEXT PRIMARY KEY,
  version INTEGER NOT NULL,
  text TEXT NOT NULL,
  forget_at REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS NS_notes_forget ON NS_notes (forget_at) WHERE forget_at IS NOT NULL;
"""

_STATEMENTS: Final[Mapping[str, str]] = {
    # What every method looks at first: the latest time seen, and the next lease to expire.
    "look": """
        SELECT seen, (SELECT min(expires_at) FROM NS_leases WHERE state = 0) FROM NS_clock""",
    "saw": "UPDATE NS_clock SET seen = ?",
    "counters": """
        SELECT key, used_usd, used_tokens, used_calls, held_usd, held_tokens, held_calls, keep_s
        FROM NS_counters WHERE key IN (KEYS)""",
    "states": """
        WITH asked (key) AS (VALUES ROWS)
        SELECT key, used_usd, used_tokens, used_calls, held_usd, held_tokens, held_calls,
               over_usd, over_tokens, over_calls, version, text
        FROM asked LEFT JOIN NS_counters USING (key) LEFT JOIN NS_notes USING (key)""",
    "hold": """
        UPDATE NS_counters SET held_usd = held_usd + ?, held_tokens = held_tokens + ?,
               held_calls = held_calls + ?, leases = leases + 1, written_at = ?
        WHERE key = ?""",
    "keep": "UPDATE NS_counters SET keep_s = ?, look_at = ? WHERE key = ?",
    "create": """
        INSERT INTO NS_counters VALUES (?, 0, 0, 0, ?, ?, ?, 0, 0, 0, ?, ?, ?, ?)""",
    "open": """
        INSERT INTO NS_leases (id, state, usd, tokens, calls, accounts, expires_at)
        VALUES (?, 0, ?, ?, ?, ?, ?)""",
    "lease": """
        SELECT state, accounts, expires_at, usd, tokens, calls, used_usd, used_tokens, used_calls,
               actual_usd, actual_tokens, actual_calls
        FROM NS_leases WHERE id = ?""",
    "extend": "UPDATE NS_leases SET expires_at = ? WHERE id = ? AND state = 0",
    "settle": """
        UPDATE NS_leases SET state = ?, settled_at = ?, used_usd = ?, used_tokens = ?,
               used_calls = ?, over_usd = ?, over_tokens = ?, over_calls = ?, actual_usd = ?,
               actual_tokens = ?, actual_calls = ?
        WHERE id = ? AND state = 0""",
    "settle_late": """
        UPDATE NS_leases SET used_usd = used_usd + ?, used_tokens = used_tokens + ?,
               used_calls = used_calls + ?, over_usd = over_usd + ?, over_tokens = over_tokens + ?,
               over_calls = over_calls + ?, actual_usd = ?, actual_tokens = ?, actual_calls = ?
        WHERE id = ? AND state > 0 AND actual_usd IS NULL""",
    "book": """
        UPDATE NS_counters SET used_usd = used_usd + ?, used_tokens = used_tokens + ?,
               used_calls = used_calls + ?, held_usd = held_usd - ?, held_tokens = held_tokens - ?,
               held_calls = held_calls - ?, over_usd = over_usd + ?, over_tokens = over_tokens + ?,
               over_calls = over_calls + ?, leases = leases - ?, written_at = ?
        WHERE key = ?""",
    "over": """
        SELECT id, usd, tokens, calls, accounts, expires_at FROM NS_leases
        WHERE state = 0 AND expires_at <= ? ORDER BY expires_at LIMIT ?""",
    "refilled": """
        INSERT INTO NS_leases VALUES (?, 1, 0, 0, 0, '[]', ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        ON CONFLICT (id) DO NOTHING""",
    "calls": "SELECT used_calls, over_calls FROM NS_counters WHERE key = ?",
    "give_back": """
        UPDATE NS_counters SET used_calls = used_calls - ?, over_calls = over_calls - ?,
               written_at = ?
        WHERE key = ?""",
    "note": "SELECT version, text FROM NS_notes WHERE key = ?",
    "write_note": """
        INSERT INTO NS_notes (key, version, text, forget_at) VALUES (?, ?, ?, ?)
        ON CONFLICT (key) DO UPDATE SET version = excluded.version, text = excluded.text,
               forget_at = excluded.forget_at""",
    "forget_notes": """
        DELETE FROM NS_notes WHERE key IN
          (SELECT key FROM NS_notes WHERE forget_at <= ? ORDER BY forget_at LIMIT ?)""",
    # Clearing away.
    "old": """
        SELECT id, accounts, used_usd, used_tokens, used_calls, over_usd, over_tokens, over_calls
        FROM NS_leases WHERE state > 0 AND settled_at <= ? ORDER BY settled_at LIMIT ?""",
    "drop": "DELETE FROM NS_leases WHERE id = ?",
    "carry": """
        INSERT INTO NS_openings VALUES (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (key) DO UPDATE SET used_usd = used_usd + excluded.used_usd,
               used_tokens = used_tokens + excluded.used_tokens,
               used_calls = used_calls + excluded.used_calls,
               over_usd = over_usd + excluded.over_usd,
               over_tokens = over_tokens + excluded.over_tokens,
               over_calls = over_calls + excluded.over_calls""",
    "drop_zero": """
        DELETE FROM NS_openings WHERE key = ? AND used_usd = 0 AND used_tokens = 0
               AND used_calls = 0 AND over_usd = 0 AND over_tokens = 0 AND over_calls = 0""",
    "quiet": """
        SELECT key, leases, written_at, keep_s, used_usd, used_tokens, used_calls, over_usd,
               over_tokens, over_calls
        FROM NS_counters WHERE look_at <= ? ORDER BY look_at LIMIT ?""",
    "forget": "DELETE FROM NS_counters WHERE key = ?",
    "look_later": "UPDATE NS_counters SET look_at = ? WHERE key = ?",
    # Reconciliation: what was counted, and what the journal says.
    "counted": """
        SELECT key, used_usd, used_tokens, used_calls, held_usd, held_tokens, held_calls,
               over_usd, over_tokens, over_calls, leases
        FROM NS_counters""",
    "journal": """
        SELECT key, sum(used_usd), sum(used_tokens), sum(used_calls), sum(held_usd),
               sum(held_tokens), sum(held_calls), sum(over_usd), sum(over_tokens),
               sum(over_calls), sum(leases)
        FROM (
          SELECT key, used_usd, used_tokens, used_calls, 0 AS held_usd, 0 AS held_tokens,
                 0 AS held_calls, over_usd, over_tokens, over_calls, 0 AS leases
          FROM NS_openings
          UNION ALL
          SELECT json_extract(place.value, '$[0]'), ifnull(used_usd, 0), ifnull(used_tokens, 0),
                 ifnull(used_calls, 0), iif(state, 0, usd), iif(state, 0, tokens),
                 iif(state, 0, calls), ifnull(over_usd, 0), ifnull(over_tokens, 0),
                 ifnull(over_calls, 0), state = 0
          FROM NS_leases, json_each(accounts) AS place
        ) GROUP BY key""",
    "set": """
        INSERT INTO NS_counters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)
        ON CONFLICT (key) DO UPDATE SET used_usd = excluded.used_usd,
               used_tokens = excluded.used_tokens, used_calls = excluded.used_calls,
               held_usd = excluded.held_usd, held_tokens = excluded.held_tokens,
               held_calls = excluded.held_calls, over_usd = excluded.over_usd,
               over_tokens = excluded.over_tokens, over_calls = excluded.over_calls,
               leases = excluded.leases""",
}


@lru_cache(maxsize=64)
def named(text: str, namespace: str) -> str:
    """SQL with the names of the tables of a namespace (a checked one: letters and digits)."""
    return text.replace("NS_", f"{namespace}_")


@lru_cache(maxsize=64)
def statements(namespace: str) -> Mapping[str, str]:
    """All statements, for the tables of a namespace."""
    return {name: named(text, namespace) for name, text in _STATEMENTS.items()}


@lru_cache(maxsize=256)
def for_keys(text: str, count: int) -> str:
    """A statement with as many placeholders as there are keys."""
    return text.replace("KEYS", ",".join("?" * count)).replace("ROWS", ",".join(["(?)"] * count))
