"""A ledger in PostgreSQL, for any number of machines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from langchain_hybridflow.budget.admin import Reset
from langchain_hybridflow.budget.checks import seconds_of
from langchain_hybridflow.budget.rules import OnExpiry, check_on_expiry
from langchain_hybridflow.budget.scripted import ScriptedLedger
from langchain_hybridflow.budget.share import Refill
from langchain_hybridflow.budget.stores._shared import (
    DAY_S,
    Clock,
    check_namespace,
    finished,
)
from langchain_hybridflow.budget.twins import arun, run
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


class PostgresLedger(ScriptedLedger):
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
            from langchain_hybridflow.budget.stores._sql_postgres_connections import (
                PostgresConnections,
            )
            from langchain_hybridflow.budget.stores._sql_postgres_share import PostgresAllSteps
        except ImportError as error:
            raise MissingExtraError("PostgresLedger", "postgres") from error
        if max_connections < 1:
            raise ConfigurationError(f"max_connections must be at least 1, not {max_connections}.")
        self._connections = PostgresConnections(
            url, timeout_s=seconds_of(timeout_s, "timeout_s"), size=max_connections
        )
        self.on_expiry: OnExpiry = check_on_expiry(on_expiry)
        self._steps = PostgresAllSteps(
            namespace=check_namespace(namespace),
            on_expiry=self.on_expiry,
            settled_keep_s=seconds_of(settled_keep_s, "settled_keep_s"),
            timeout_s=timeout_s,
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"PostgresLedger({self._connections.url!r})"

    async def areserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Do what `reserve` does, without blocking the event loop.

        Cancelled, it waits for the reply, and frees what that has opened.
        """
        work = self._ado(self._steps.reserve(lease_id, amounts, accounts, ttl_s))
        return await finished(work, undo=partial(self.arelease, lease_id))

    def reconcile(self, *, repair: bool = False) -> Reconciliation:
        """Compare all counters with what the journal says; see `SyncLedger.reconcile`.

        Takes a second or two for a million remembered leases. Only with `repair` do others wait
        for it.

        Raises:
            LedgerUnavailable: If the server does not answer.
        """
        return super().reconcile(repair=repair)

    def list_keys(self, prefix: str = "") -> tuple[str, ...]:
        """All keys that begin with `prefix` and have counters or a note, sorted.

        Those of more than 2,000 bytes are left out: they are stored as digests. No tables are made
        for it.

        Raises:
            LedgerUnavailable: If the server does not answer.
        """
        return self._do(self._steps.list_keys(prefix))

    def open_leases(self, key: str | None = None) -> tuple[Lease, ...]:
        """The leases that are open, or those in one account; the first to expire comes first.

        Raises:
            LedgerUnavailable: If the server does not answer.
        """
        return self._do(self._steps.open_leases(key))

    def reset(self, key: str, *, force: bool = False) -> Reset:
        """Let an account begin anew, and move what was used in it; see `LedgerAdmin.reset`.

        Raises:
            LedgerError: If leases are open in it and it is not forced.
            LedgerUnavailable: If the server does not answer.
        """
        return self._do(self._steps.reset(key, force=force))

    def close(self) -> None:
        """Close the connections; harmless when done twice. The next use makes new ones."""
        self._connections.close()

    async def aclose(self) -> None:
        """Do what `close` does."""
        self._connections.close()

    def _do(self, script: Steps[_T]) -> _T:
        return run(script, self._connections.run)

    async def _ado(self, script: Steps[_T]) -> _T:
        return await arun(script, self._connections.arun)

    def _now(self) -> Steps[float]:
        return self._steps.now()

    def _reserve(
        self, lease_id: str, amounts: Amounts, accounts: tuple[Account, ...], ttl_s: float
    ) -> Steps[Lease | Denial]:
        answer, _ = yield from self._steps.reserve(lease_id, amounts, accounts, ttl_s)
        return answer

    def _extend(self, lease_id: str, ttl_s: float) -> Steps[Lease]:
        return self._steps.extend(lease_id, ttl_s)

    def _settle(self, lease_id: str, actual: Amounts | None) -> Steps[bool]:
        if actual is None:
            return self._steps.release(lease_id)
        return self._steps.commit(lease_id, actual)

    def _expire(self) -> Steps[tuple[Lease, ...]]:
        return self._steps.expire()

    def _snapshot(self, accounts: tuple[Account, ...]) -> Steps[tuple[AccountState, ...]]:
        return self._steps.snapshot(accounts)

    def _swap_note(
        self, key: str, expected_version: int, text: str, keep_s: float | None
    ) -> Steps[Note]:
        return self._steps.swap_note(key, expected_version, text, keep_s)

    def _refill(self, refill_id: str, refills: tuple[Refill, ...]) -> Steps[bool]:
        return self._steps.refill(refill_id, refills)

    def _reconcile(self, *, repair: bool) -> Steps[Reconciliation]:
        return self._steps.reconcile(repair=repair)
