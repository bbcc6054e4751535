"""How `RedisLedger` reaches its server: clients, time-outs, second tries, errors with advice."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any, NoReturn

from langchain_hybridflow.errors import (
    ConfigurationError,
    LedgerUnavailable,
    MissingExtraError,
)

try:
    import redis
    import redis.asyncio
    import redis.asyncio.cluster
    import redis.asyncio.retry
    import redis.backoff
    import redis.cluster
    import redis.exceptions
    import redis.retry
except ImportError as error:
    raise MissingExtraError("RedisLedger", "redis") from error

__all__ = ["Link"]

_LOG = logging.getLogger(__name__)

_CONNECTIONS_PER_LOOP = 32
"""How many commands one event loop has under way; the others wait for their turn."""

_FAILURES = (redis.exceptions.RedisError, redis.exceptions.RedisClusterException, OSError)

_NOT_LOST = (redis.exceptions.BusyLoadingError, redis.exceptions.AuthenticationError)
"""Connection errors by their class, and answers of the server all the same."""

_ADVICE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (
        redis.exceptions.BusyLoadingError,
        "it is reading its data from disk after a start, and answers when that is done",
    ),
    (
        redis.exceptions.ReadOnlyError,
        "it is a replica, which cannot be written to: the URL must lead to the primary",
    ),
    (
        redis.exceptions.ClusterDownError,
        "its cluster, or its primary, is down: see CLUSTER INFO",
    ),
    (
        redis.exceptions.AskError,
        "it is one node of a cluster, and another one has this ledger: use cluster=True",
    ),
    (
        (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError),
        "it wants another user or password in the URL, or lets that user run no scripts (EVALSHA)",
    ),
    (
        redis.exceptions.OutOfMemoryError,
        "it has no memory left (maxmemory) and writes nothing",
    ),
)


class Link:
    """Runs the script on the server, blocking or awaiting.

    A command whose reply is lost is sent a second time, over a new connection: all operations may
    be repeated. Nothing else is, so that a call ends within four times `timeout_s`: twice the time
    to connect and to be answered. On an event loop that includes the time to wait for its turn.

    There is one client for all threads, and one for each event loop, which is closed with it. After
    a fork, a process makes connections of its own.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py reads it.
        keys: The keys of the ledger, in the order of the script.
        timeout_s: How long to wait for a connection, and for an answer.
        cluster: Whether the URL names a node of a cluster of several.

    Raises:
        ConfigurationError: If the URL cannot be read.
    """

    def __init__(self, url: str, *, keys: Sequence[str], timeout_s: float, cluster: bool) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._options = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        self._cluster = cluster
        script = (files(__package__) / "redis.lua").read_text(encoding="utf-8")
        sha = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._by_sha = ("EVALSHA", sha, str(len(keys)), *keys)
        self._by_text = ("EVAL", script, str(len(keys)), *keys)
        self._packed_by_sha = _packed(self._by_sha)
        self._examined = False
        self._client: Any = None
        self._loops: dict[asyncio.AbstractEventLoop, _LoopClient] = {}
        try:
            options = redis.ConnectionPool.from_url(url).connection_kwargs
        except (ValueError, TypeError):
            # Not the text of the error: it can hold the password.
            raise ConfigurationError(
                "The URL of a RedisLedger must be redis://[user:password@]host[:port][/number], "
                "rediss:// for TLS, or unix:///path/of/socket, and the given one cannot be read. "
                "Characters such as @ / ? # in a password are written as %40 %2F %3F %23."
            ) from None
        if options.keys() & {"decode_responses", "protocol"}:
            raise ConfigurationError(
                "The URL of a RedisLedger takes neither decode_responses nor protocol: the ledger "
                "reads the replies itself."
            )

    def call(self, arguments: Sequence[str | bytes]) -> list[Any]:
        """Run the script.

        Raises:
            LedgerUnavailable: If the server does not answer, or cannot do it.
        """
        try:
            client = self._sync_client()
            try:
                reply = self._run(client, arguments)
            except _FAILURES as error:
                _raise_unless_lost(error)
                reply = self._run(client, arguments)
            if not self._examined:
                self._examined = True
                self._examine(client)
        except _FAILURES as error:
            self._unavailable(error)
        return reply

    async def acall(self, arguments: Sequence[str | bytes]) -> list[Any]:
        """Do what `call` does, without blocking the event loop."""
        try:
            # For all of it: among many calls, this one has to wait for a connection, too.
            async with asyncio.timeout(4 * self._timeout_s):
                here = await self._client_of_loop()
                async with here.turns:
                    try:
                        reply = await self._arun(here.client, arguments)
                    except _FAILURES as error:
                        _raise_unless_lost(error)
                        reply = await self._arun(here.client, arguments)
            if not self._examined:
                self._examined = True
                async with here.turns:
                    await self._aexamine(here.client)
        except _FAILURES as error:
            self._unavailable(error)
        return reply

    def close(self) -> None:
        """Close the connections of the threads."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop, and those of the threads."""
        here = self._loops.get(asyncio.get_running_loop())
        if here is not None:
            await here.end.aclose()
        self.close()

    def _run(self, client: Any, arguments: Sequence[str | bytes]) -> list[Any]:
        try:
            if self._cluster:
                reply: list[Any] = client.execute_command(*self._by_sha, *arguments)
            else:
                reply = self._run_packed(client.connection_pool, self._command(arguments))
        except redis.exceptions.NoScriptError:  # a server that was started since
            reply = client.execute_command(*self._by_text, *arguments)
        return reply

    async def _arun(self, client: Any, arguments: Sequence[str | bytes]) -> list[Any]:
        try:
            if self._cluster:
                reply: list[Any] = await client.execute_command(*self._by_sha, *arguments)
            else:
                reply = await self._arun_packed(client.connection_pool, self._command(arguments))
        except redis.exceptions.NoScriptError:
            reply = await client.execute_command(*self._by_text, *arguments)
        return reply

    # What `execute_command` does, too, but for what is the same in every call: it is packed once,
    # which takes a third off the time that a call spends in this process.

    def _command(self, arguments: Sequence[str | bytes]) -> bytes:
        size = len(self._by_sha) + len(arguments)
        return b"*%d\r\n%b%b" % (size, self._packed_by_sha, _packed(arguments))

    def _run_packed(self, pool: Any, command: bytes) -> list[Any]:
        connection = pool.get_connection()
        try:
            connection.send_packed_command([command])
            reply: list[Any] = connection.read_response()
        except redis.exceptions.ResponseError:
            raise
        except BaseException:
            connection.disconnect()  # a reply may still come, and is nobody else's
            raise
        finally:
            pool.release(connection)
        return reply

    async def _arun_packed(self, pool: Any, command: bytes) -> list[Any]:
        connection = await pool.get_connection()
        try:
            await connection.send_packed_command([command])
            reply: list[Any] = await connection.read_response()
        except redis.exceptions.ResponseError:
            raise
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)
        return reply

    # RESP 2 in all of them: RESP 3 is of no use here, and takes a command more for each connection.

    def _sync_client(self) -> Any:
        if self._client is None:
            retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
            kind: Any = redis.cluster.RedisCluster if self._cluster else redis.Redis
            more = {} if self._cluster else {"max_connections": 2**31}
            self._client = kind.from_url(
                self._url, retry=retry, protocol=2, **self._options, **more
            )
        return self._client

    async def _client_of_loop(self) -> _LoopClient:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            for old in list(self._loops):
                if old.is_closed():
                    self._loops.pop(old, None)
            retry = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
            kind: Any = redis.asyncio.cluster.RedisCluster if self._cluster else redis.asyncio.Redis
            client = kind.from_url(self._url, retry=retry, protocol=2, **self._options)
            here = self._loops[loop] = _LoopClient(client, self._closing(loop, client))
            # An event loop that ends closes the asynchronous generators that were begun in it, and
            # this one closes the connections. They could not be closed any later.
            await anext(here.end)
        return here

    async def _closing(
        self, loop: asyncio.AbstractEventLoop, client: Any
    ) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._loops.pop(loop, None)
            with suppress(*_FAILURES):
                await client.aclose()

    # Once for a ledger: whether the server may throw its keys away.

    def _examine(self, client: Any) -> None:
        with suppress(*_FAILURES):  # a server need not tell
            self._warn_of_eviction(client.info("memory"))

    async def _aexamine(self, client: Any) -> None:
        with suppress(*_FAILURES):
            self._warn_of_eviction(await client.info("memory"))

    def _warn_of_eviction(self, info: Any) -> None:
        policy = str(info.get("maxmemory_policy", ""))
        # The keys of a ledger never expire by themselves: the policies "volatile-..." leave them.
        if policy.startswith("allkeys"):
            _LOG.warning(
                "The Redis server of a ledger has maxmemory-policy %s: when its memory is full it "
                "throws counters away, and budgets start from zero. Set it to noeviction.",
                policy,
            )

    def _unavailable(self, error: Exception) -> NoReturn:
        reason = str(error) or f"it took more than {4 * self._timeout_s:g} s"
        kind = type(error)
        if "unauthenticated" in reason:  # how a server without a login refuses a long command
            kind = redis.exceptions.AuthenticationError
        for kinds, advice in _ADVICE:
            if issubclass(kind, kinds):
                reason = f"{advice} ({reason})"
                break
        raise LedgerUnavailable(self._url, reason.rstrip(".")) from error


class _LoopClient:
    """The client of an event loop."""

    def __init__(self, client: Any, end: AsyncGenerator[None, None]) -> None:
        self.client = client
        self.end = end
        self.turns = asyncio.Semaphore(_CONNECTIONS_PER_LOOP)


def _packed(parts: Iterable[str | bytes]) -> bytes:
    """Write down parts of a command as the protocol of Redis wants them."""
    encoded = (part if isinstance(part, bytes) else part.encode() for part in parts)
    return b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded])


def _raise_unless_lost(error: Exception) -> None:
    """Go on if it is not known whether the server has done what it was asked."""
    lost = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
    if isinstance(error, _NOT_LOST) or not isinstance(error, lost):
        raise error
