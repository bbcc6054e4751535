"""Connections to PostgreSQL: a few for each process, with a time limit on everything.

Not psycopg_pool: its pools have threads of their own, which do not survive a fork, belong to one
event loop, and say "no connection in time" where the reason is that the password is wrong.
"""

from __future__ import annotations

import asyncio
import math
import os
import queue
import time
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, finalize

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from langchain_hybridflow.errors import ConfigurationError, LedgerUnavailable

__all__ = ["PostgresConnections", "Query", "Rows"]

Rows = list[tuple[Any, ...]]

_TRIES = 5

# Another transaction was in the way, and this one has been undone: try again.
_AGAIN = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.UniqueViolation,
)

_WRONG_DATABASE = (
    errors.DuplicateFunction,
    errors.DuplicateObject,
    errors.DuplicateTable,
    errors.InsufficientPrivilege,
)


class Query(NamedTuple):
    """One statement, which is one round trip and one transaction."""

    sql: str
    values: Sequence[Any] | None = ()
    """Its values; `None` for a statement that has none and returns no rows."""
    patience: float = 1.0
    """How many times the usual time limit it may take."""


class _TooSlow(psycopg.OperationalError):
    """The server did not answer in time."""


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose every wait ends at a deadline."""

    deadline = math.inf

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait for the server, until the deadline."""
        return super().wait(_until(gen, self.deadline), *args, **kwargs)


class _AsyncConnection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """The same for an event loop."""

    deadline = math.inf

    async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait for the server, until the deadline."""
        return await super().wait(_until(gen, self.deadline), *args, **kwargs)


def _until(gen: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
    """Run a generator of psycopg, which says what it waits for, until the deadline."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:  # nothing came for a while
                gen.close()
                raise _TooSlow("there was no answer in time")
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value


_C = TypeVar("_C", _Connection, _AsyncConnection)


class _Idle:
    """What a process has: places for connections, and connections that nobody uses just now."""

    def __init__(self, size: int) -> None:
        self.pid = os.getpid()
        # A SimpleQueue may be used again in the middle of its own methods, as the garbage
        # collector may do; a semaphore may not.
        self.places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(size):
            self.places.put(None)
        self.sync: list[_Connection] = []
        self.asynchronous: list[_AsyncConnection] = []
        self.loops: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            WeakKeyDictionary()
        )

    def close(self) -> None:
        """Close what is idle; never in a forked child, whose connections are its parent's."""
        if self.pid != os.getpid():
            return
        while (connection := _popped(self.sync)) is not None:
            connection.pgconn.finish()
        while (other := _popped(self.asynchronous)) is not None:
            other.pgconn.finish()


class PostgresConnections:
    """Run statements on connections that are made when needed and kept for the next one.

    A statement whose connection breaks is sent once more, on a new one: all statements of the
    ledger are safe to send again.

    Args:
        url: `postgresql://user:password@host:port/database?options`.
        timeout_s: How long a statement may take, waiting for a connection included.
        size: How many connections there may be; for sync use, and for each event loop.

    Raises:
        ConfigurationError: If the URL is not one of PostgreSQL.
    """

    def __init__(self, url: str, *, timeout_s: float, size: int) -> None:
        self.url = LedgerUnavailable(url, "").url  # one rule for what is a secret
        self._options = {
            **_parsed(url, self.url),
            # Whole seconds; psycopg waits for two at least.
            "connect_timeout": max(2, math.ceil(timeout_s)),
        }
        self._options.setdefault("application_name", "langchain-hybridflow")
        self._timeout_s = timeout_s
        self._size = size
        self._inherited: list[_Idle] = []
        self._idle = _Idle(size)
        self._finalizer = finalize(self, _Idle.close, self._idle)

    def run(self, query: Query) -> Rows:
        """Run a statement, and return its rows.

        Raises:
            LedgerUnavailable: If there was no answer in time.
        """
        until = time.monotonic() + self._timeout_s * query.patience
        tried = _Tries(self.url, until)
        while True:
            idle = self._of_this_process()
            self._take_place(idle, until)
            connection = None
            try:
                connection = _popped(idle.sync) or self._connect()
                connection.deadline = until
                cursor = connection.execute(query.sql, query.values)
                rows = cursor.fetchall() if query.values is not None else []
            except psycopg.Error as error:
                tried.failed(error, lost=connection is not None and connection.closed)
                if tried.broken:
                    idle.close()
            else:
                return rows
            finally:
                if connection is not None and not _given_back(connection, idle.sync):
                    connection.pgconn.finish()
                idle.places.put(None)

    async def arun(self, query: Query) -> Rows:
        """Do what `run` does, without blocking the event loop."""
        until = time.monotonic() + self._timeout_s * query.patience
        tried = _Tries(self.url, until)
        while True:
            idle = self._of_this_process()
            places = self._places_of_loop(idle)
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    await places.acquire()
            except TimeoutError:
                raise self._no_place() from None
            connection = None
            try:
                connection = _popped(idle.asynchronous) or await self._aconnect()
                connection.deadline = until
                cursor = await connection.execute(query.sql, query.values)
                rows = await cursor.fetchall() if query.values is not None else []
            except psycopg.Error as error:
                tried.failed(error, lost=connection is not None and connection.closed)
                if tried.broken:
                    idle.close()
            else:
                return rows
            finally:
                if connection is not None and not _given_back(connection, idle.asynchronous):
                    connection.pgconn.finish()
                places.release()

    def close(self) -> None:
        """Close the connections that are idle; the next statement makes new ones."""
        self._idle.close()

    def _connect(self) -> _Connection:
        return _Connection.connect(autocommit=True, prepare_threshold=None, **self._options)

    async def _aconnect(self) -> _AsyncConnection:
        return await _AsyncConnection.connect(
            autocommit=True, prepare_threshold=None, **self._options
        )

    def _of_this_process(self) -> _Idle:
        if self._idle.pid != os.getpid():
            # Kept, for they must not be closed here: they are the parent's.
            self._inherited.append(self._idle)
            self._idle = _Idle(self._size)
            self._finalizer = finalize(self, _Idle.close, self._idle)
        return self._idle

    def _take_place(self, idle: _Idle, until: float) -> None:
        try:
            idle.places.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise self._no_place() from None

    def _places_of_loop(self, idle: _Idle) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        places = idle.loops.get(loop)
        if places is None:
            places = idle.loops.setdefault(loop, asyncio.Semaphore(self._size))
        return places

    def _no_place(self) -> LedgerUnavailable:
        return LedgerUnavailable(
            self.url,
            f"all {self._size} connections of this process were in use for {self._timeout_s:g} s",
        )


class _Tries:
    """How often a statement was tried, and whether it makes sense to do so again."""

    def __init__(self, url: str, until: float) -> None:
        self._url = url
        self._until = until
        self._count = 0
        self.broken = False

    def failed(self, error: psycopg.Error, *, lost: bool) -> None:
        """Return if the statement is to be tried again.

        Args:
            error: What happened.
            lost: Whether a connection that was good has broken: there may be better ones.

        Raises:
            ConfigurationError: If the tables cannot be made in this database.
            LedgerUnavailable: If it is not to be tried again for another reason.
        """
        self._count += 1
        in_time = time.monotonic() < self._until
        if isinstance(error, _AGAIN) and self._count < _TRIES and in_time:
            return
        if lost and not self.broken and in_time:
            self.broken = True
            return
        reason = " ".join(str(error).split())
        if isinstance(error, _WRONG_DATABASE):
            raise ConfigurationError(
                f"PostgresLedger cannot make its tables at {self._url}: {reason}. Nothing was "
                f"changed. Give it a namespace of its own, and a user that may create a schema."
            ) from error
        raise LedgerUnavailable(self._url, reason) from error


def _popped(connections: list[_C]) -> _C | None:
    try:
        return connections.pop()
    except IndexError:
        return None


def _given_back(connection: _C, idle: list[_C]) -> bool:
    """Keep a connection for the next statement, if it is fit for one."""
    if connection.closed or connection.info.transaction_status != TransactionStatus.IDLE:
        return False
    idle.append(connection)
    return True


def _parsed(url: str, shown: str) -> dict[str, Any]:
    advice = "Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters as %XX."
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError(f"{shown!r} is not the URL of a PostgreSQL database. {advice}")
    try:
        options = conninfo_to_dict(url)
    except psycopg.Error:  # not chained: its message may hold the password
        raise ConfigurationError(f"The URL {shown!r} cannot be read. {advice}") from None
    ports = str(options.get("port") or "5432").split(",")
    if not all(port.isdecimal() and 0 < int(port) < 65_536 for port in ports if port):
        raise ConfigurationError(f"The URL {shown!r} has no valid port. {advice}")
    return options
