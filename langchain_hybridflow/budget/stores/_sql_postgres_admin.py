"""The administration of `PostgresLedger`: its function, and its steps."""

from __future__ import annotations

from typing import Final

from langchain_hybridflow.budget.admin import Reset, archive_of, still_in_use
from langchain_hybridflow.budget.stores._shared import accounts_from_json
from langchain_hybridflow.budget.stores._sql_postgres_connections import Query
from langchain_hybridflow.budget.stores._sql_postgres_schema import in_schema
from langchain_hybridflow.budget.stores._sql_postgres_steps import PostgresSteps, Steps, indexed
from langchain_hybridflow.budget.types import Amounts, Lease

__all__ = ["PostgresAdminSteps"]

_KEYS: Final = """
    SELECT key FROM NS.counters WHERE starts_with(key, %s)
    UNION
    SELECT key FROM NS.notes WHERE starts_with(key, %s)"""

_OPEN: Final = """
    SELECT coalesce(long_id, id), usd, tokens, calls, accounts, expires_at
    FROM NS.leases WHERE state = 0 AND (%s::text IS NULL OR %s::text = ANY (keys))
    ORDER BY expires_at, id"""

_RESET: Final = "SELECT at, leases, numbers FROM NS.reset(%s, %s, %s, %s::float8, %s)"

# How much longer than a call it may take to look at everything.
_PATIENCE: Final = 30.0


class PostgresAdminSteps(PostgresSteps):
    """The steps of a ledger, and those of its administration."""

    def list_keys(self, prefix: str) -> Steps[tuple[str, ...]]:
        """All keys that begin so and have counters or a note, but for those that are digests."""
        if not (yield from self._exists()):
            return ()
        yield from self._prepare()
        rows = yield Query(in_schema(_KEYS, self._namespace), (prefix, prefix), _PATIENCE)
        return tuple(sorted(key for (key,) in rows if key.isprintable()))

    def open_leases(self, key: str | None) -> Steps[tuple[Lease, ...]]:
        """The open leases, the next to expire first."""
        if not (yield from self._exists()):
            return ()
        yield from self.expire()
        name = None if key is None else indexed(key)
        rows = yield Query(in_schema(_OPEN, self._namespace), (name, name), _PATIENCE)
        return tuple(
            Lease(lease_id, Amounts(*amounts), accounts_from_json(accounts), expires_at)
            for lease_id, *amounts, accounts, expires_at in rows
        )

    def reset(self, key: str, *, force: bool) -> Steps[Reset]:
        """Move what is booked under a key, in counters and journal."""
        archive = archive_of(key)
        yield from self.expire()
        values = (indexed(key), indexed(archive), force, self._test_time(), self._wait)
        query = Query(in_schema(_RESET, self._namespace), values)
        ((_, leases, numbers),) = yield from self._timed(query, at=0)
        if leases and not force:
            raise still_in_use(key, leases)
        return Reset(key, archive, Amounts(*numbers[:3]), Amounts(*numbers[3:]), leases)
