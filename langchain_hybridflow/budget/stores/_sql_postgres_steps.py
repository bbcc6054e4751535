"""What `PostgresLedger` asks the database, and what it makes of the answers; without any IO.

Each method is a generator: it yields statements, gets their rows, and returns the result. So the
sync and the async ledger are the same rules on two kinds of connections.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import count
from secrets import token_hex
from typing import Any, Final, TypeAlias, TypeVar, cast

from langchain_hybridflow.budget.rules import (
    Ending,
    OnExpiry,
    already_settled,
    check_note,
    check_replay,
    check_request,
    check_ttl_s,
    differences_of,
    first_denial,
    not_open,
    other_cost,
    unknown_lease,
)
from langchain_hybridflow.budget.stores._shared import (
    BATCH,
    CHORES_EVERY,
    Clock,
    accounts_from_json,
    accounts_to_json,
    check_amounts,
    states_of,
)
from langchain_hybridflow.budget.stores._sql_postgres_connections import Query, Rows
from langchain_hybridflow.budget.stores._sql_postgres_schema import (
    SCHEMA_VERSION,
    in_schema,
    migration,
)
from langchain_hybridflow.budget.types import (
    Account,
    AccountState,
    Amounts,
    Column,
    Denial,
    Lease,
    Note,
    Reconciliation,
)
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["PostgresSteps", "Steps", "array", "indexed"]

_T = TypeVar("_T")
Steps: TypeAlias = Generator[Query, Rows, _T]

_STATEMENTS: Final = {
    "version": "SELECT max(version) FROM NS.schema_version",
    "now": "SELECT extract(epoch FROM clock_timestamp())::float8",
    "reserve": """
        SELECT outcome, at, expires_at, numbers, accounts, mine
        FROM NS.reserve(%s, %s, %s, %s::bigint, %s::bigint, %s::bigint, %s::text[],
                        %s::integer[], %s::float8[], %s::bigint[], %s::bigint[], %s::bigint[],
                        %s::text[], %s::integer[], %s, %s::float8, %s::float8, %s, %s)""",
    "settle": """
        SELECT outcome, at, numbers FROM NS.settle(%s, %s::bigint[], %s::float8, %s, %s)""",
    "extend": """
        SELECT outcome, at, expires_at, numbers, accounts
        FROM NS.extend(%s, %s::float8, %s::float8, %s, %s)""",
    "expire": """
        SELECT at, id, numbers, accounts, expires_at
        FROM NS.expire(%s, %s, %s::float8, %s)""",
    "chores": "SELECT at FROM NS.chores(%s::float8, %s, %s::float8, %s)",
    "states": """
        WITH clock AS MATERIALIZED (
          SELECT coalesce(%s::float8, extract(epoch FROM clock_timestamp())::float8) AS at
        )
        SELECT CASE WHEN EXISTS (
                 SELECT 1 FROM NS.leases WHERE state = 0 AND expires_at <= clock.at
               ) THEN 'due' ELSE 'found' END,
               clock.at, asked.key, used_usd, used_tokens, used_calls, held_usd, held_tokens,
               held_calls, over_usd, over_tokens, over_calls, version, text
        FROM clock CROSS JOIN unnest(%s::text[]) AS asked (key)
        LEFT JOIN NS.counters AS c ON c.key = asked.key LEFT JOIN NS.notes AS n ON n.key = asked.key
        """,
    "note": """
        SELECT at, version, body
        FROM NS.swap_note(%s, %s::bigint, %s, %s::float8, %s::float8, %s)""",
    "reconcile": """
        SELECT total, key, counted, journal FROM NS.reconcile(%s, %s::float8)""",
}

# PostgreSQL cannot index more than 2,704 bytes.
_MAX_INDEXED_BYTES = 2_000
_MAX_BIGINT = 2**63 - 1

# How much longer than a call the rare, large tasks may take.
_MIGRATION_PATIENCE = 15.0
_RECONCILE_PATIENCE = 60.0

# A clock offset that was learnt from a quick reply holds for so long against slower ones.
_OFFSET_HOLDS_S = 60.0


class PostgresSteps:
    """The methods of a ledger, as steps.

    Args:
        namespace: The schema of the database that tables and functions are in.
        on_expiry: What happens to leases that nobody settles.
        settled_keep_s: How long settled leases are remembered.
        timeout_s: How long a statement may take.
        clock: Replaces the clock of the server, for tests.
    """

    def __init__(
        self,
        *,
        namespace: str,
        on_expiry: OnExpiry,
        settled_keep_s: float,
        timeout_s: float,
        clock: Clock | None,
    ) -> None:
        self._namespace = namespace
        self._sql = {name: in_schema(text, namespace) for name, text in _STATEMENTS.items()}
        self._charge = on_expiry == "charge"
        self._settled_keep_s = settled_keep_s
        # The server gives up before the client does: then it is sure that nothing happened.
        self._wait = f"{max(1, int(timeout_s * 750))}ms"
        self._clock = clock
        self._prepared = False
        self._turns = 0
        # Names each call, so that one that is sent again knows its own work.
        self._origin = token_hex(8)
        self._calls = count()
        self._offset: tuple[float, float, float] | None = None
        self._latest_now = float("-inf")

    def now(self) -> Steps[float]:
        """The time of the server, by the local clock if the difference is known."""
        if self._clock is not None:
            return self._clock()
        if self._offset is None:
            yield from self._timed(Query(self._sql["now"]), at=0)
        assert self._offset is not None  # noqa: S101 - learnt from the reply
        self._latest_now = max(self._latest_now, time.monotonic() + self._offset[0])
        return self._latest_now

    def reserve(
        self, lease_id: str, amounts: Amounts, accounts: Sequence[Account], ttl_s: float
    ) -> Steps[tuple[Lease | Denial, bool]]:
        """The lease or the denial, and whether the lease is new."""
        places = check_request(lease_id, accounts)
        name = indexed(lease_id)
        values = (
            name,
            None if name == lease_id else lease_id,
            self._new_call(),
            *check_amounts(amounts),
            *_places(places),
            accounts_to_json(places),
            check_ttl_s(ttl_s),
        )
        ((outcome, _, expires_at, numbers, text, mine),) = yield from self._turn("reserve", values)
        if outcome == "granted":
            return Lease(lease_id, amounts, places, expires_at), True
        if outcome == "denied":
            number, *counted = numbers
            account = places[number - 1]
            denial = first_denial(amounts, account, used=counted[:3], held=counted[3:])
            return cast(Denial, denial), False
        if outcome != "open":
            raise already_settled(lease_id, cast(Ending, outcome))
        lease = Lease(lease_id, Amounts(*numbers), accounts_from_json(text), expires_at)
        check_replay(
            lease_id,
            amounts=amounts,
            accounts=places,
            open_amounts=lease.amounts,
            open_keys=[account.key for account in lease.accounts],
        )
        return lease, bool(mine)

    def extend(self, lease_id: str, ttl_s: float) -> Steps[Lease]:
        """The lease with its new end."""
        values = (indexed(lease_id), check_ttl_s(ttl_s))
        ((outcome, _, expires_at, numbers, text),) = yield from self._turn("extend", values)
        if outcome != "extended":
            raise not_open(lease_id)
        return Lease(lease_id, Amounts(*numbers), accounts_from_json(text), expires_at)

    def commit(self, lease_id: str, actual: Amounts) -> Steps[bool]:
        """Whether this settled the lease."""
        values = (indexed(lease_id), array(check_amounts(actual)))
        ((outcome, _, numbers),) = yield from self._turn("settle", values)
        if outcome == "unknown":
            raise unknown_lease(lease_id, actual)
        if outcome == "known" and Amounts(*numbers) != actual:
            raise other_cost(lease_id, first=Amounts(*numbers), now=actual)
        return bool(outcome == "settled")

    def release(self, lease_id: str) -> Steps[bool]:
        """Whether this settled the lease."""
        ((outcome, *_),) = yield from self._turn("settle", (indexed(lease_id), None))
        return bool(outcome == "settled")

    def expire(self) -> Steps[tuple[Lease, ...]]:
        """The leases that this settled."""
        yield from self._prepare()
        yield from self._chores()
        leases: list[Lease] = []
        while True:
            batch = yield from self._expire_batch()
            leases += batch
            if len(batch) < BATCH:
                return tuple(leases)

    def snapshot(self, accounts: Sequence[Account]) -> Steps[tuple[AccountState, ...]]:
        """The states of the accounts."""
        yield from self._prepare()
        keys = list(dict.fromkeys(key for account in accounts for key in account.keys))
        if not keys:
            return ()
        query = (self._test_time(), [indexed(key) for key in keys])
        rows = yield from self._timed(Query(self._sql["states"], query), at=1)
        if rows[0][0] == "due":
            yield from self.expire()
            rows = yield from self._timed(Query(self._sql["states"], query), at=1)
        by_name = {row[2]: row[3:] for row in rows}
        return states_of(
            accounts, {key: by_name[indexed(key)] for key in keys}, at=float(rows[0][1])
        )

    def swap_note(
        self, key: str, expected_version: int, text: str, keep_s: float | None
    ) -> Steps[Note]:
        """The note that stands afterwards."""
        check_note(key, expected_version, text, keep_s)
        yield from self._prepare()
        values = (indexed(key), expected_version, text, keep_s, self._test_time(), self._wait)
        rows = yield from self._timed(Query(self._sql["note"], values), at=0)
        version, body = rows[0][1:]
        return Note() if version is None else Note(version, body)

    def reconcile(self, *, repair: bool) -> Steps[Reconciliation]:
        """What counters and journal say."""
        yield from self.expire()
        query = (repair, self._test_time())
        rows = yield Query(self._sql["reconcile"], query, _RECONCILE_PATIENCE)
        found = [row for row in rows if row[1] is not None]
        differences = differences_of(
            {key: _columns(counted) for _, key, counted, _ in found},
            {key: _columns(journal) for _, key, _, journal in found},
        )
        return Reconciliation(
            accounts_checked=rows[0][0],
            differences=differences,
            repaired=repair and bool(differences),
        )

    def _new_call(self) -> str:
        return f"{self._origin}/{next(self._calls)}"

    def _turn(self, name: str, values: tuple[Any, ...]) -> Steps[Rows]:
        """One call of a function that wants nothing to be over its time."""
        yield from self._prepare()
        self._turns += 1
        if self._turns % CHORES_EVERY == 0:
            yield from self._chores()
        for hurry in (False, True):
            full = (*values, self._test_time(), hurry, self._wait)
            rows = yield from self._timed(Query(self._sql[name], full), at=1)
            if rows[0][0] != "due":
                return rows
            yield from self._expire_batch()
        raise AssertionError("a call in a hurry does not ask for expiry")

    def _expire_batch(self) -> Steps[list[Lease]]:
        values = (self._charge, BATCH, self._test_time(), self._wait)
        rows = yield from self._timed(Query(self._sql["expire"], values), at=0)
        return [
            Lease(lease_id, Amounts(*numbers), accounts_from_json(accounts), expires_at)
            for _, lease_id, numbers, accounts, expires_at in rows
            if lease_id is not None
        ]

    def _chores(self) -> Steps[None]:
        values = (self._settled_keep_s, BATCH, self._test_time(), self._wait)
        yield Query(self._sql["chores"], values)

    def _exists(self) -> Steps[bool]:
        """Whether there are tables."""
        there = "SELECT to_regclass(%s) IS NOT NULL"
        ((found,),) = yield Query(there, (f'"{self._namespace}".schema_version',))
        return bool(found)

    def _prepare(self) -> Steps[None]:
        """Make sure, once, that the tables are there and are those of this version."""
        if self._prepared:
            return
        if not (yield from self._exists()):
            yield Query(migration(self._namespace), None, _MIGRATION_PATIENCE)
        ((version,),) = yield Query(self._sql["version"])
        if version != SCHEMA_VERSION:
            raise ConfigurationError(
                f"The schema {self._namespace!r} has version {version} of the tables of "
                f"PostgresLedger, and this version of langchain-hybridflow knows {SCHEMA_VERSION}. "
                f"It was not changed. Use the version of langchain-hybridflow that made it, or "
                f"another namespace."
            )
        self._prepared = True

    def _test_time(self) -> float | None:
        return None if self._clock is None else self._clock()

    def _timed(self, query: Query, *, at: int) -> Steps[Rows]:
        """Run a query whose rows tell the time, and learn how far the local clock is from it."""
        asked = time.monotonic()
        rows = yield query
        took = time.monotonic() - asked
        if self._clock is None and rows:
            _, best, since = self._offset or (0.0, took, asked)
            if took <= best or asked - since > _OFFSET_HOLDS_S:
                self._offset = (rows[0][at] - asked - took / 2, took, asked)
        return rows


@lru_cache(maxsize=1024)
def _places(accounts: tuple[Account, ...]) -> tuple[str, ...]:
    """Accounts as the function `reserve` wants them: in the order of keys, as arrays."""
    by_key = sorted(
        (indexed(account.key), place, account) for place, account in enumerate(accounts, start=1)
    )
    limits = [tuple(account.limits) for _, _, account in by_key]
    earlier = [
        (indexed(key), number)
        for number, (_, _, account) in enumerate(by_key, start=1)
        for key in account.earlier
    ]
    return (
        array(key for key, _, _ in by_key),
        array(place for _, place, _ in by_key),
        array(account.keep_s for _, _, account in by_key),
        *(array(_bounded(row[dimension]) for row in limits) for dimension in range(3)),
        array(key for key, _ in earlier),
        array(number for _, number in earlier),
    )


def array(values: Iterable[str | float | None]) -> str:
    r"""An array as PostgreSQL writes it; psycopg takes longer, and this can be kept.

    Example:
        >>> array(['a "b"', None, 2])
        '{"a \\"b\\"",NULL,"2"}'
    """
    texts = [
        "NULL" if value is None else '"{}"'.format(re.sub(r'(["\\])', r"\\\1", str(value)))
        for value in values
    ]
    return f"{{{','.join(texts)}}}"


def _bounded(limit: int | None) -> int | None:
    return None if limit is None else min(limit, _MAX_BIGINT)


def indexed(name: str) -> str:
    """A name as it is stored: a digest of it, if it is too long for an index."""
    if len(name) * 4 <= _MAX_INDEXED_BYTES:
        return name
    encoded = name.encode()
    if len(encoded) <= _MAX_INDEXED_BYTES:
        return name
    # No name of an account or a lease begins like this: what cannot be printed is refused.
    return f"\x01sha256:{sha256(encoded).hexdigest()}"


def _columns(row: Sequence[int]) -> dict[Column, Sequence[int]]:
    return {"used": row[0:3], "held": row[3:6], "overdraft": row[6:9]}
