"""A ledger in a SQLite file, for all processes of one machine."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

from langchain_hybridflow.budget.admin import Reset
from langchain_hybridflow.budget.checks import seconds_of
from langchain_hybridflow.budget.rules import (
    OnExpiry,
    check_note,
    check_on_expiry,
    check_request,
    check_ttl_s,
)
from langchain_hybridflow.budget.share import Refill, check_refills
from langchain_hybridflow.budget.stores._shared import (
    BATCH,
    CHORES_EVERY,
    DAY_S,
    Clock,
    SteadyClock,
    check_amounts,
    check_namespace,
    finished,
)
from langchain_hybridflow.budget.stores._sqlite_admin import SQLiteAdmin
from langchain_hybridflow.budget.stores._sqlite_book import SQLiteBook
from langchain_hybridflow.budget.stores._sqlite_chores import SQLiteChores
from langchain_hybridflow.budget.stores._sqlite_file import SQLiteFile
from langchain_hybridflow.budget.stores._sqlite_statements import statements
from langchain_hybridflow.budget.types import (
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    Note,
    Reconciliation,
)
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["SQLiteLedger"]

_T = TypeVar("_T")

# How exactly the latest time is written down for other processes. Each process knows it exactly.
_SEEN_STEP_S = 1.0


class SQLiteLedger:
    """Keep the counters in a SQLite file, for any number of threads and processes of one machine.

    Needs no server and no extra. The file is opened, checked and, if it is new, made ready at once.
    It lies on a local disk: network file systems have no locks that can be relied on. The async
    methods do their work in a thread of the ledger, so that no event loop waits for the disk.
    A process may fork; the ledger goes on in both.

    The time is that of the machine. If its clock is set back, the ledger goes on from the latest
    time that it has seen (that of other processes to within a second), until the clock has caught
    up.

    Args:
        path: The file. Its directory must exist.
        namespace: Start of the names of the tables: several ledgers may share a file.
        on_expiry: `"charge"` books an expired lease in full, as nobody knows that its call was not
            made; `"refund"` frees it.
        settled_keep_s: How long settled leases are remembered, to recognise a second settlement, in
            seconds. What they cost is in the counters for good.
        timeout_s: How long to wait for other processes and threads, in seconds.
        durable: `True` waits for the disk at every call (`synchronous=FULL`), so that a loss of
            power loses nothing. Without it, the last calls before a loss of power may be lost, as
            the budget's counters; a crash of the process loses nothing either way.
        clock: Replaces the clock of the machine, for tests: returns epoch seconds.

    Raises:
        ConfigurationError: If there can be no ledger in this file: no such directory, no right to
            write, a file of another program, or tables of another version. It was not changed.
        LedgerUnavailable: If other processes hold the file for longer than `timeout_s`.

    Example:
        >>> import tempfile
        >>> from langchain_hybridflow.budget import Account, Amounts, Limits
        >>> directory = tempfile.TemporaryDirectory()
        >>> ledger = SQLiteLedger(f"{directory.name}/budget.db")
        >>> team = Account("team", "team", Limits(cloud_tokens=1_000))
        >>> lease = ledger.reserve("a", Amounts(cloud_tokens=800), accounts=[team], ttl_s=60)
        >>> ledger.commit("a", Amounts(cloud_tokens=150))
        True
        >>> ledger.close()
        >>> SQLiteLedger(f"{directory.name}/budget.db").snapshot([team])[0].remaining(
        ...     "cloud_tokens"
        ... )
        850
        >>> directory.cleanup()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        namespace: str = "hybridflow",
        on_expiry: OnExpiry = "charge",
        settled_keep_s: float = DAY_S,
        timeout_s: float = 5.0,
        durable: bool = False,
        clock: Clock | None = None,
    ) -> None:
        if not os.fspath(path) or os.fspath(path) == ":memory:":
            raise ConfigurationError("SQLiteLedger needs a file. In memory, use MemoryLedger().")
        check_namespace(namespace)
        self.on_expiry: OnExpiry = check_on_expiry(on_expiry)
        self._book = SQLiteBook(namespace, self.on_expiry)
        self._chores = SQLiteChores(namespace, seconds_of(settled_keep_s, "settled_keep_s"))
        self._admin = SQLiteAdmin(namespace)
        self._sql = statements(namespace)
        self._clock = SteadyClock(clock)
        self._turns = 0
        self._thread = _Thread()
        self._file = SQLiteFile(
            Path(path).absolute(),
            namespace=namespace,
            timeout_s=seconds_of(timeout_s, "timeout_s"),
            durable=durable,
        )
        with self._file.transaction(write=False) as db:
            self._look(db, write=False)

    def __repr__(self) -> str:
        return f"SQLiteLedger({str(self._file.path)!r})"

    def now(self) -> float:
        """The time of the machine, in epoch seconds; never goes back."""
        return self._clock.read()

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Hold `amounts` in all accounts, or in none; see `SyncLedger.reserve`.

        Raises:
            LedgerError: If the id is open with other amounts or accounts, or was settled before;
                if an account is named twice, or the time to live is not positive.
            LedgerUnavailable: If the file is locked for too long, or cannot be written.
        """
        return self._reserve(lease_id, amounts, accounts, ttl_s)[0]

    def extend(self, lease_id: str, ttl_s: float) -> Lease:
        """Let an open lease expire `ttl_s` seconds from now; never earlier than before.

        Raises:
            LedgerError: If the lease is not open, or the time to live is not positive.
            LedgerUnavailable: If the file is locked for too long, or cannot be written.
        """
        check_ttl_s(ttl_s)
        with self._turn() as (db, now):
            return self._book.extend(db, now, lease_id, ttl_s)

    def commit(self, lease_id: str, actual: Amounts) -> bool:
        """Book what the call cost and free the rest; see `SyncLedger.commit`.

        Raises:
            LedgerError: If the id is unknown, or another cost was booked for it.
            LedgerUnavailable: If the file is locked for too long, or cannot be written.
        """
        check_amounts(actual)
        with self._turn() as (db, now):
            return self._book.commit(db, now, lease_id, actual)

    def release(self, lease_id: str) -> bool:
        """Free the reservation: the call was never made; see `SyncLedger.release`.

        Raises:
            LedgerUnavailable: If the file is locked for too long, or cannot be written.
        """
        with self._turn() as (db, now):
            return self._book.release(db, now, lease_id)

    def expire(self) -> tuple[Lease, ...]:
        """Settle all leases that are over their time, and return them.

        Raises:
            LedgerUnavailable: If the file is locked for too long, or cannot be written.
        """
        over: list[Lease] = []
        while True:
            with self._file.transaction() as db:
                now, _ = self._look(db)
                batch = self._book.expire(db, now)
                self._chores.run(db, now)
            over += batch
            if len(batch) < BATCH:
                return tuple(over)

    def snapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """The counters of the accounts, all at one instant, in the order asked for.

        Raises:
            LedgerUnavailable: If the file is locked for too long, or cannot be read.
        """
        while True:
            with self._file.transaction(write=False) as db:
                now, waiting = self._look(db, write=False)
                if not waiting:
                    return self._book.states(db, now, accounts)
            self.expire()

    def swap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        """Write the note of an account, unless somebody else was faster; see `SyncLedger`.

        Raises:
            LedgerError: If the text is too long, or the version negative.
            LedgerUnavailable: If the file is locked for too long, or cannot be written.
        """
        check_note(key, expected_version, text, keep_s)
        with self._turn() as (db, now):
            return self._book.swap_note(db, now, key, Note(expected_version + 1, text), keep_s)

    def refill(self, refill_id: str, refills: Sequence[Refill]) -> bool:
        """Count an answered prompt in some accounts, once; see `RefillableLedger.refill`.

        Raises:
            LedgerError: An account is named twice, or the id is that of an open lease.
            LedgerUnavailable: If the file is locked for too long, or cannot be written.
        """
        given = check_refills(refill_id, refills)
        with self._turn() as (db, now):
            return self._book.refill(db, now, refill_id, given)

    async def arefill(self, refill_id: str, refills: Sequence[Refill]) -> bool:
        """Do what `refill` does, without blocking the event loop."""
        return await self._thread.run(self.refill, refill_id, refills)

    def reconcile(self, *, repair: bool = False) -> Reconciliation:
        """Compare all counters with what the journal says; see `SyncLedger.reconcile`.

        Takes about two seconds for a million remembered leases; other threads wait for it, and with
        `repair` other processes, too.

        Raises:
            LedgerUnavailable: If the file is locked for too long, or cannot be read.
        """
        self.expire()
        with self._file.transaction(write=repair) as db:
            return self._chores.reconcile(db, self._clock.read(), repair=repair)

    def list_keys(self, prefix: str = "") -> tuple[str, ...]:
        """All keys that begin with `prefix` and have counters or a note, sorted.

        Raises:
            LedgerUnavailable: If the file is locked for too long, or cannot be read.
        """
        with self._file.transaction(write=False) as db:
            return self._admin.list_keys(db, prefix)

    def open_leases(self, key: str | None = None) -> tuple[Lease, ...]:
        """The leases that are open, or those in one account; the first to expire comes first.

        Raises:
            LedgerUnavailable: If the file is locked for too long, or cannot be written.
        """
        self.expire()
        with self._file.transaction(write=False) as db:
            return self._admin.open_leases(db, key)

    def reset(self, key: str, *, force: bool = False) -> Reset:
        """Let an account begin anew, and move what was used in it; see `LedgerAdmin.reset`.

        Raises:
            LedgerError: If leases are open in it and it is not forced.
            LedgerUnavailable: If the file is locked for too long, or cannot be written.
        """
        with self._turn() as (db, now):
            return self._admin.reset(db, now, key, force=force)

    def close(self) -> None:
        """Close the file; harmless when done twice. The next use opens it again."""
        self._file.close()
        self._thread.stop()

    async def anow(self) -> float:
        """Do what `now` does."""
        return self.now()

    async def areserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Do what `reserve` does, without blocking the event loop."""
        work = self._thread.run(self._reserve, lease_id, amounts, accounts, ttl_s)
        return await finished(work, undo=partial(self.arelease, lease_id))

    async def aextend(self, lease_id: str, ttl_s: float) -> Lease:
        """Do what `extend` does, without blocking the event loop."""
        return await self._thread.run(self.extend, lease_id, ttl_s)

    async def acommit(self, lease_id: str, actual: Amounts) -> bool:
        """Do what `commit` does, without blocking the event loop."""
        return await self._thread.run(self.commit, lease_id, actual)

    async def arelease(self, lease_id: str) -> bool:
        """Do what `release` does, without blocking the event loop."""
        return await self._thread.run(self.release, lease_id)

    async def aexpire(self) -> tuple[Lease, ...]:
        """Do what `expire` does, without blocking the event loop."""
        return await self._thread.run(self.expire)

    async def asnapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        """Do what `snapshot` does, without blocking the event loop."""
        return await self._thread.run(self.snapshot, accounts)

    async def aswap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        """Do what `swap_note` does, without blocking the event loop."""
        swap = partial(self.swap_note, expected_version=expected_version, keep_s=keep_s)
        return await self._thread.run(swap, key, text=text)

    async def areconcile(self, *, repair: bool = False) -> Reconciliation:
        """Do what `reconcile` does, without blocking the event loop."""
        return await self._thread.run(self.reconcile, repair=repair)

    async def aclose(self) -> None:
        """Do what `close` does, without blocking the event loop."""
        await self._thread.run(self.close)

    def _reserve(
        self, lease_id: str, amounts: Amounts, accounts: Sequence[Account], ttl_s: float
    ) -> tuple[Lease | Denial, bool]:
        places = check_request(lease_id, accounts)
        check_amounts(amounts)
        check_ttl_s(ttl_s)
        with self._turn() as (db, now):
            return self._book.reserve(db, now, Lease(lease_id, amounts, places, now + ttl_s))

    @contextmanager
    def _turn(self) -> Iterator[tuple[Connection, float]]:
        """A transaction and its time, after what is over its time has expired."""
        with self._file.transaction() as db:
            now, waiting = self._look(db)
            if waiting:
                self._book.expire(db, now)
            self._turns += 1
            if self._turns % CHORES_EVERY == 0:
                self._chores.run(db, now)
            yield db, now

    def _look(self, db: Connection, *, write: bool = True) -> tuple[float, bool]:
        """The time, and whether leases wait to expire."""
        seen, next_expiry = db.execute(self._sql["look"]).fetchone()
        now = self._clock.read(seen)
        if write and now >= seen + _SEEN_STEP_S:
            db.execute(self._sql["saw"], (now,))
        return now, next_expiry is not None and next_expiry <= now


class _Thread:
    """A thread of its own for work that would block an event loop, made when first used."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._executor: ThreadPoolExecutor | None = None
        self._pid = 0

    def run(self, work: Callable[..., _T], *args: object, **kwargs: object) -> asyncio.Future[_T]:
        """Have the work done after all that was asked for before."""
        with self._lock:
            if self._executor is None or self._pid != os.getpid():  # no thread survives a fork
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="hybridflow-ledger")
                self._pid = os.getpid()
            loop = asyncio.get_running_loop()
            return loop.run_in_executor(self._executor, partial(work, *args, **kwargs))

    def stop(self) -> None:
        """End the thread when its work is done."""
        with self._lock:
            if self._executor is not None:
                self._executor.shutdown(wait=False)
                self._executor = None
