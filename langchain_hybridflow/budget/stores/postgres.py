"""A ledger in PostgreSQL, for any number of machines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from langchain_hybridflow.budget.admin import Reset
from langchain_hybridflow.budget.rules import OnExpiry, check_on_expiry
from langchain_hybridflow.budget.stores._sql import (
    DAY_S,
    Clock,
    check_namespace,
    check_seconds,
    finished,
)
from langchain_hybridflow.budget.types import (
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    Note,
    Reconciliation,
)
from langchain_hybridflow.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from langchain_hybridflow.budget.stores._sql_postgres_steps import Steps

__all__ = ["PostgresLedger"]

_T = TypeVar("_T")


class PostgresLedger:
    """Keep the counters in a PostgreSQL database (12 or newer); needs the extra `postgres`.

    Each method is one statement: one round trip and one transaction. Tables and functions are made
    when the ledger is first used, in a schema of their own. It works behind a pooler in transaction
    mode, and in a process that forks. The time is that of the server.

    A lost connection is tried once more on a new one, as all methods are safe to repeat; if that
    fails, or there is no answer in time, nobody knows whether the call was carried out, and
    `LedgerUnavailable` is raised.

    Args:
        url: `postgresql://user:password@host:port/database`; what libpq takes after a `?`, such as
            `sslmode=require`, too. The password is in no error and in no `repr`.
        namespace: The schema of the database that the ledger makes and uses.
        on_expiry: `"charge"` books an expired lease in full, as nobody knows that its call was not
            made; `"refund"` frees it.
        settled_keep_s: How long settled leases are remembered, to recognise a second settlement, in
            seconds. What they cost is in the counters for good.
        timeout_s: How long to wait for the server, in seconds; a new connection may take two.
        max_connections: How many connections a process has, for sync use and for each event loop.
        clock: Replaces the clock of the server, for tests: returns epoch seconds.

    Raises:
        ConfigurationError: If the URL cannot be read, or an argument cannot work as given; at the
            first use, if the schema has tables of another version or program, or the user may not
            make one.
        MissingExtraError: If psycopg is not installed.

    Example:
        >>> PostgresLedger("postgresql://me:secret@db.example.org/budgets")
        PostgresLedger('postgresql://db.example.org/budgets')
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "hybridflow",
        on_expiry: OnExpiry = "charge",
        settled_keep_s: float = DAY_S,
        timeout_s: float = 2.0,
        max_connections: int = 8,
        clock: Clock | None = None,
    ) -> None:
        try:
            from langchain_hybridflow.budget.stores._sql_postgres_admin import PostgresAdminSteps
            from langchain_hybridflow.budget.stores._sql_postgres_connections import (
                PostgresConnections,
            )
        except ImportError as error:
            raise MissingExtraError("PostgresLedger", "postgres") from error
        if max_connections < 1:
            raise ConfigurationError(f"max_connections must be at least 1, not {max_connections}.")
        self._connections = PostgresConnections(
            url, timeout_s=check_seconds(timeout_s, name="timeout_s"), size=max_connections
        )
        self.on_expiry: OnExpiry = check_on_expiry(on_expiry)
        self._steps = PostgresAdminSteps(
            namespace=check_namespace(namespace),
            on_expiry=self.on_expiry,
            settled_keep_s=check_seconds(settled_keep_s, name="settled_keep_s"),
            timeout_s=timeout_s,
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"PostgresLedger({self._connections.url!r})"

    def now(self) -> float:
        """The time of the server, in epoch seconds; only the first call asks for it.

        Raises:
            LedgerUnavailable: If the server does not answer.
        """
        return self._run(self._steps.now())

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Hold `amounts` in all accounts, or in none; see `SyncLedger.reserve`.

        Raises:
            LedgerError: If the id is open with other amounts or accounts, or was settled before;
                if an account is named twice, or the time to live is not positive.
            LedgerUnavailable: If the server does not answer.
        """
        return self._run(self._steps.reserve(lease_id, amounts, accounts, ttl_s))[0]

    def extend(self, lease_id: str, ttl_s: float) -> Lease:
        """Let an open lease expire `ttl_s` seconds from now; never earlier than before.

        Raises:
            LedgerError: If the lease is not open, or the time to live is not positive.
            LedgerUnavailable: If the server does not answer.
        """
        return self._run(self._steps.extend(lease_id, ttl_s))

    def commit(self, lease_id: str, actual: Amounts) -> bool:
        """Book what the call cost and free the rest; see `SyncLedger.commit`.

        Raises:
            LedgerError: If the id is unknown, or another cost was booked for it.
            LedgerUnavailable: If the server does not answer.
        """
        return self._run(self._steps.commit(lease_id, actual))

    def release(self, lease_id: str) -> bool:
        """Free the reservation: the call was never made; see `SyncLedger.release`.

        Raises:
            LedgerUnavailable: If the server does not answer.
        """
        return self._run(self._steps.release(lease_id))

    def expire(self) -> tuple[Lease, ...]:
        """Settle all leases that are over their time, and return them.

        Raises:
            LedgerUnavailable: If the server does not answer.
        """
        return self._run(self._steps.expire())

    def snapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """The counters of the accounts, all at one instant, in the order asked for.

        Raises:
            LedgerUnavailable: If the server does not answer.
        """
        return self._run(self._steps.snapshot(accounts))

    def swap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        """Write the note of an account, unless somebody else was faster; see `SyncLedger`.

        Raises:
            LedgerError: If the text is too long, or the version negative.
            LedgerUnavailable: If the server does not answer.
        """
        return self._run(self._steps.swap_note(key, expected_version, text, keep_s))

    def reconcile(self, *, repair: bool = False) -> Reconciliation:
        """Compare all counters with what the journal says; see `SyncLedger.reconcile`.

        Takes a second or two for a million remembered leases. Only with `repair` do others wait
        for it.

        Raises:
            LedgerUnavailable: If the server does not answer.
        """
        return self._run(self._steps.reconcile(repair=repair))

    def list_keys(self, prefix: str = "") -> tuple[str, ...]:
        """All keys that begin with `prefix` and have counters or a note, sorted.

        Those of more than 2,000 bytes are left out: they are stored as digests. No tables are made
        for it.

        Raises:
            LedgerUnavailable: If the server does not answer.
        """
        return self._run(self._steps.list_keys(prefix))

    def open_leases(self, key: str | None = None) -> tuple[Lease, ...]:
        """The leases that are open, or those in one account; the first to expire comes first.

        Raises:
            LedgerUnavailable: If the server does not answer.
        """
        return self._run(self._steps.open_leases(key))

    def reset(self, key: str, *, force: bool = False) -> Reset:
        """Let an account begin anew, and move what was used in it; see `LedgerAdmin.reset`.

        Raises:
            LedgerError: If leases are open in it and it is not forced.
            LedgerUnavailable: If the server does not answer.
        """
        return self._run(self._steps.reset(key, force=force))

    def close(self) -> None:
        """Close the connections; harmless when done twice. The next use makes new ones."""
        self._connections.close()

    async def anow(self) -> float:
        """Do what `now` does, without blocking the event loop."""
        return await self._arun(self._steps.now())

    async def areserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Do what `reserve` does, without blocking the event loop."""
        work = self._arun(self._steps.reserve(lease_id, amounts, accounts, ttl_s))
        return await finished(work, undo=partial(self.arelease, lease_id))

    async def aextend(self, lease_id: str, ttl_s: float) -> Lease:
        """Do what `extend` does, without blocking the event loop."""
        return await self._arun(self._steps.extend(lease_id, ttl_s))

    async def acommit(self, lease_id: str, actual: Amounts) -> bool:
        """Do what `commit` does, without blocking the event loop."""
        return await self._arun(self._steps.commit(lease_id, actual))

    async def arelease(self, lease_id: str) -> bool:
        """Do what `release` does, without blocking the event loop."""
        return await self._arun(self._steps.release(lease_id))

    async def aexpire(self) -> tuple[Lease, ...]:
        """Do what `expire` does, without blocking the event loop."""
        return await self._arun(self._steps.expire())

    async def asnapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """Do what `snapshot` does, without blocking the event loop."""
        return await self._arun(self._steps.snapshot(accounts))

    async def aswap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        """Do what `swap_note` does, without blocking the event loop."""
        return await self._arun(self._steps.swap_note(key, expected_version, text, keep_s))

    async def areconcile(self, *, repair: bool = False) -> Reconciliation:
        """Do what `reconcile` does, without blocking the event loop."""
        return await self._arun(self._steps.reconcile(repair=repair))

    async def aclose(self) -> None:
        """Do what `close` does."""
        self._connections.close()

    def _run(self, steps: Steps[_T]) -> _T:
        try:
            query = next(steps)
            while True:
                query = steps.send(self._connections.run(query))
        except StopIteration as end:
            value: _T = end.value
            return value

    async def _arun(self, steps: Steps[_T]) -> _T:
        try:
            query = next(steps)
            while True:
                query = steps.send(await self._connections.arun(query))
        except StopIteration as end:
            value: _T = end.value
            return value
