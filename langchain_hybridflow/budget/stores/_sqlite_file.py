"""A SQLite file as a ledger needs it: checked before it is changed, shared, and safe to fork."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from weakref import WeakSet

from langchain_hybridflow.budget.stores._sqlite_statements import (
    APPLICATION_ID,
    SCHEMA,
    SCHEMA_VERSION,
    named,
)
from langchain_hybridflow.errors import ConfigurationError, LedgerError, LedgerUnavailable

__all__ = ["SQLiteFile"]

_CACHE_KIB = 16_384

# A checkpoint waits for the disk twice; four times as many calls as by default share the wait.
_CHECKPOINT_PAGES = 4_000


class SQLiteFile:
    """One connection for all threads of a process, and one lock around it.

    SQLite has one writer at a time anyway; a second connection would only wait in another place.

    Args:
        path: The file; it is made if it does not exist.
        namespace: Start of the names of the tables.
        timeout_s: How long to wait for other threads and processes.
        durable: Whether a commit waits for the disk.

    Raises:
        ConfigurationError: If there can be no ledger in this file.
        LedgerUnavailable: If other processes hold the file for longer than `timeout_s`.
    """

    def __init__(self, path: Path, *, namespace: str, timeout_s: float, durable: bool) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self._namespace = namespace
        self._timeout_s = timeout_s
        self._durable = durable
        # Reentrant: the garbage collector may settle leases in the middle of a transaction here;
        # they become a part of it.
        self._lock = threading.RLock()
        self._depth = 0
        self._writes = False
        self._connection: sqlite3.Connection | None = None
        self._locked_for_fork = False
        self._connected()
        _files().add(self)

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """Run statements at one instant, and alone if they write.

        A `LedgerError` from within leaves what was written: use against the rules is found before
        anything is written for it, and leases that have expired by then have expired.

        Raises:
            LedgerUnavailable: If the file is locked for too long, or cannot be read or written.
        """
        self._lock_up()
        try:
            if self._depth:  # of this very thread
                yield self._joined(write=write)
                return
            try:
                connection = self._connected()
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                self._depth, self._writes = 1, write
                try:
                    yield connection
                except LedgerError:
                    connection.execute("COMMIT")
                    raise
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._unavailable(error) from error
            finally:
                self._depth = 0
                if self._connection is not None and self._connection.in_transaction:
                    with suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
        finally:
            self._lock.release()

    def _joined(self, *, write: bool) -> sqlite3.Connection:
        """The connection in the middle of a transaction, which is made one that may write."""
        connection = self._connected()
        if write and not self._writes:
            # What was read may be old by now, and SQLite would not let it be written to.
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")
            self._writes = True
        return connection

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        self._lock_up()
        try:
            if self._connection is not None and not self._depth:
                self._connection.close()
                self._connection = None
        finally:
            self._lock.release()

    def __del__(self) -> None:
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()  # Python 3.13 warns of those that nobody has closed

    def _lock_up(self) -> None:
        if not self._lock.acquire(timeout=self._timeout_s):
            raise LedgerUnavailable(
                self.url, f"other threads of this process have used it for {self._timeout_s:g} s"
            )

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = _opened(
                self.path,
                namespace=self._namespace,
                timeout_s=self._timeout_s,
                durable=self._durable,
            )
        return self._connection

    def _unavailable(self, error: sqlite3.Error) -> LedgerUnavailable:
        reason = str(error)
        if "locked" in reason or "busy" in reason:
            reason = f"another process has had it locked for {self._timeout_s:g} s"
        return LedgerUnavailable(self.url, reason)

    # A process that is forked inherits the connection without its locks, and SQLite does not
    # notice: the file could be destroyed. So none is open while a process forks.

    def before_fork(self) -> None:
        """Let no transaction run, and no connection be open, while the process forks."""
        self._locked_for_fork = self._lock.acquire(timeout=self._timeout_s)
        if self._locked_for_fork and not self._depth and self._connection is not None:
            self._connection.close()
            self._connection = None

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._locked_for_fork:
            self._locked_for_fork = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start anew: the threads that may hold the lock do not exist here."""
        self._locked_for_fork = False
        self._lock = threading.RLock()
        self._depth = 0


@cache
def _files() -> WeakSet[SQLiteFile]:
    """The files of this process. The hooks are set with the first one, not at import."""
    files: WeakSet[SQLiteFile] = WeakSet()

    def tell(method: str) -> None:
        for file in list(files):
            getattr(file, method)()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lambda: tell("before_fork"),
            after_in_parent=lambda: tell("after_fork_in_parent"),
            after_in_child=lambda: tell("after_fork_in_child"),
        )
    return files


def _opened(path: Path, *, namespace: str, timeout_s: float, durable: bool) -> sqlite3.Connection:
    """Open the file, look at what it is, and only then make a ledger of it if it is new."""
    if path.is_dir():
        raise ConfigurationError(f"SQLiteLedger needs a file, and {str(path)!r} is a directory.")
    if not path.parent.is_dir():
        raise ConfigurationError(
            f"SQLiteLedger cannot make {str(path)!r}: there is no directory "
            f"{str(path.parent)!r}. Make it first."
        )
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            path, timeout=timeout_s, isolation_level=None, check_same_thread=False
        )
        _check_version(connection, path)
        _prepare(connection, path, namespace=namespace, timeout_s=timeout_s, durable=durable)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise _cannot_open(path, error, timeout_s) from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return connection


def _cannot_open(path: Path, error: sqlite3.Error, timeout_s: float) -> Exception:
    reason = str(error)
    if "locked" in reason or "busy" in reason:
        return LedgerUnavailable(
            f"sqlite:///{path}", f"another process has had it locked for {timeout_s:g} s"
        )
    if "not a database" in reason or "malformed" in reason:
        advice = "It was not changed. Give the ledger a file of its own."
    else:
        advice = "The file and its directory must be readable and writable for this process."
    return ConfigurationError(f"SQLiteLedger cannot use {str(path)!r}: {reason}. {advice}")


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse, having changed nothing, what is no ledger or not one of this version."""
    application_id, version, tables = connection.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), "
        "(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_master)"
    ).fetchone()
    if application_id != APPLICATION_ID and (tables or application_id or version):
        raise ConfigurationError(
            f"SQLiteLedger cannot use {str(path)!r}: it is the database of another program "
            f"({tables} tables and indexes). It was not changed. Give the ledger a file of its own."
        )
    if application_id == APPLICATION_ID and version != SCHEMA_VERSION:
        raise ConfigurationError(
            f"SQLiteLedger cannot use {str(path)!r}: it has version {version} of the tables, and "
            f"this version of langchain-hybridflow knows {SCHEMA_VERSION}. It was not changed. "
            f"Use the version of langchain-hybridflow that made it, or another file."
        )


def _prepare(
    connection: sqlite3.Connection, path: Path, *, namespace: str, timeout_s: float, durable: bool
) -> None:
    mode = _use_wal(connection, timeout_s)
    if mode != "wal":
        raise ConfigurationError(
            f"SQLiteLedger cannot use {str(path)!r}: its file system has no write-ahead log "
            f"(journal mode {mode!r}). Use a local disk."
        )
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    known = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE name = ?", (f"{namespace}_notes_forget",)
    ).fetchone()
    if known[0]:
        return
    connection.execute("BEGIN IMMEDIATE")
    _check_version(connection, path)  # again, now that nobody else can change it
    for statement in named(SCHEMA, namespace).split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _use_wal(connection: sqlite3.Connection, timeout_s: float) -> object:
    # SQLite does not wait by itself when two processes ask for this at once.
    until = time.monotonic() + timeout_s
    while True:
        try:
            return connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
