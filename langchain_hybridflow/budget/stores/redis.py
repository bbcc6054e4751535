"""A ledger in Redis, or Valkey: for any number of processes on any number of machines."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from langchain_hybridflow.budget import rules
from langchain_hybridflow.budget.admin import Reset
from langchain_hybridflow.budget.checks import seconds_of
from langchain_hybridflow.budget.scripted import ScriptedLedger
from langchain_hybridflow.budget.share import Refill
from langchain_hybridflow.budget.stores import _redis_admin
from langchain_hybridflow.budget.stores._redis_requests import (
    Answer,
    Books,
    Request,
    Requests,
)
from langchain_hybridflow.budget.stores._shared import (
    DAY_S,
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
from langchain_hybridflow.errors import ConfigurationError, LedgerError

__all__ = ["RedisLedger"]

T = TypeVar("T")
Steps: TypeAlias = Generator[Request[Any], Any, T]

_LOG = logging.getLogger(__name__)

# As the script takes them.
_KEYS = (
    "clock",
    "counters",
    "opening",
    "journal",
    "open",
    "expiries",
    "settled",
    "remembered",
    "fading",
    "notes",
)
_MICROS = 1_000_000
_MOST_ARGUMENTS = 3_000  # Lua's stack holds some thousand values
_REPAIRS = 5  # how often a repair that others were faster than is tried


class RedisLedger(ScriptedLedger):
    """Keep the counters on a Redis server, which all processes share.

    Each method is one run of one script on the server, and so one atomic step and one round trip.
    It needs Redis 6 or newer, or Valkey, and no modules. The time is the server's; if its clock is
    set back, the time of the ledger stands still until it has caught up. What a call costs does not
    depend on how many reservations there were before.

    If the server does not answer, `LedgerUnavailable` is raised, after at most four times
    `timeout_s`: a command whose reply is lost is sent once more. Async calls use a client of their
    event loop, with up to 32 connections, which is closed with the loop; the time to wait for one
    of these is included.

    The budget is as durable as the server. Without `appendonly yes`, a server that is killed
    forgets what was spent since its last snapshot, and without any persistence everything, which is
    logged as an error by processes that outlive it. With a `maxmemory-policy` of the kind
    `allkeys-...` it throws counters away when its memory is full, of which a warning is logged:
    use `noeviction`. Failover to a replica loses what was not replicated yet.

    `reconcile` reads all counters in one step, and no other client is served meanwhile: about one
    second for 300,000 accounts.

    Args:
        url: `redis://[user:password@]host[:port][/number]`, `rediss://` for TLS, or
            `unix:///path/of/socket`. Options of redis-py may follow as a query.
        on_expiry: `"charge"` books an expired lease in full, as nobody knows that its call was not
            made; `"refund"` frees it. Each lease keeps the rule that it was granted under.
        namespace: Distinguishes ledgers on one server; part of the keys, as
            `hybridflow:{namespace}:counters`. In a cluster a ledger lives in one slot.
        timeout_s: Seconds to wait for a connection, and for a reply.
        settled_keep_s: Seconds for which the id of a settled lease is remembered. A commit that
            comes even later is refused with `LedgerError`.
        cluster: Whether the server is a node of a cluster with more than one.
        clock: Epoch seconds that replace the server's time, for tests.

    Raises:
        ConfigurationError: If an argument cannot work as given.
        MissingExtraError: If redis-py is not installed.

    Example:
        >>> ledger = RedisLedger("redis://localhost:6379/0", namespace="shop", timeout_s=0.5)
        >>> ledger.close()
    """

    def __init__(
        self,
        url: str,
        *,
        on_expiry: rules.OnExpiry = "charge",
        namespace: str = "hybridflow",
        timeout_s: float = 2.0,
        settled_keep_s: float = DAY_S,
        cluster: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        from langchain_hybridflow.budget.stores._redis_link import Link  # wants an extra

        prefix = f"hybridflow:{{{check_namespace(namespace)}}}"
        self.on_expiry: rules.OnExpiry = rules.check_on_expiry(on_expiry)
        self._requests = Requests(
            on_expiry=self.on_expiry,
            settled_keep_s=seconds_of(settled_keep_s, "settled_keep_s"),
        )
        self._link = Link(
            url,
            keys=[f"{prefix}:{key}" for key in _KEYS],
            timeout_s=seconds_of(timeout_s, "timeout_s"),
            cluster=cluster,
        )
        self._namespace = namespace
        self._clock = clock
        # How far the server's clock is ahead of the monotonic one, as the last reply told.
        self._ahead_s: float | None = None
        self._latest = 0.0

    async def areserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        """Do what `reserve` does, without blocking the event loop.

        Cancelled, it waits for the reply, and frees what that has opened.
        """
        caller = _caller()
        request = self._requests.reserve(lease_id, amounts, accounts, ttl_s, caller=caller)
        undo = self._requests.undo(lease_id, caller=caller)
        return await finished(self._aperform(request), undo=lambda: self._aperform(undo))

    def list_keys(self, prefix: str = "") -> tuple[str, ...]:
        """All keys that begin with `prefix` and have counters or a note, sorted.

        No other client is served meanwhile, as with `reconcile`.

        Raises:
            LedgerUnavailable: If the server does not answer.
        """
        return self._perform(_redis_admin.list_keys(prefix))

    def open_leases(self, key: str | None = None) -> tuple[Lease, ...]:
        """The leases that are open, or those in one account; the first to expire comes first.

        Raises:
            LedgerUnavailable: If the server does not answer.
        """
        self.expire()
        return self._perform(_redis_admin.open_leases(key))

    def reset(self, key: str, *, force: bool = False) -> Reset:
        """Let an account begin anew, and move what was used in it; see `LedgerAdmin.reset`.

        Raises:
            LedgerError: If leases are open in it and it is not forced.
            LedgerUnavailable: If the server does not answer.
        """
        self.expire()
        return self._perform(_redis_admin.reset(key, force=force))

    def close(self) -> None:
        """Close the connections of all threads; the ledger can go on being used."""
        self._link.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop and of all threads."""
        await self._link.aclose()

    def _do(self, script: Steps[T]) -> T:
        return run(script, self._perform)

    async def _ado(self, script: Steps[T]) -> T:
        return await arun(script, self._aperform)

    def _now(self) -> Steps[float]:
        if self._ahead_s is None or self._clock is not None:
            yield self._requests.now()
        return self._time()

    def _reserve(
        self, lease_id: str, amounts: Amounts, accounts: tuple[Account, ...], ttl_s: float
    ) -> Steps[Lease | Denial]:
        answer: Lease | Denial
        answer, _ = yield self._requests.reserve(
            lease_id, amounts, accounts, ttl_s, caller=_caller()
        )
        return answer

    def _extend(self, lease_id: str, ttl_s: float) -> Steps[Lease]:
        return _reply_to(self._requests.extend(lease_id, ttl_s))

    def _settle(self, lease_id: str, actual: Amounts | None) -> Steps[bool]:
        if actual is None:
            return _reply_to(self._requests.release(lease_id))
        return _reply_to(self._requests.commit(lease_id, actual))

    def _expire(self) -> Steps[tuple[Lease, ...]]:
        over: list[Lease] = []
        more = True
        while more:  # some at a time
            leases, more = yield self._requests.expire()
            over += leases
        return tuple(over)

    def _snapshot(self, accounts: tuple[Account, ...]) -> Steps[tuple[AccountState, ...]]:
        return _reply_to(self._requests.snapshot(accounts))

    def _swap_note(
        self, key: str, expected_version: int, text: str, keep_s: float | None
    ) -> Steps[Note]:
        return _reply_to(self._requests.swap_note(key, expected_version, text, keep_s))

    def _refill(self, refill_id: str, refills: tuple[Refill, ...]) -> Steps[bool]:
        return _reply_to(self._requests.refill(refill_id, refills))

    def _reconcile(self, *, repair: bool) -> Steps[Reconciliation]:
        yield from self._expire()
        found: Books = yield self._requests.books()
        books = found
        for _ in range(_REPAIRS if repair else 0):
            changes = books.changes()
            mended = 0
            for request in self._requests.repair(changes):
                mended += yield request
            if mended == len(changes):
                return found.compare(repaired=True)
            books = yield self._requests.books()  # somebody has booked in the meantime
        return found.compare(repaired=False)

    def _perform(self, request: Request[T]) -> T:
        return request.read(self._answer(self._link.call(self._arguments(request))))

    async def _aperform(self, request: Request[T]) -> T:
        return request.read(self._answer(await self._link.acall(self._arguments(request))))

    def _arguments(self, request: Request[Any]) -> tuple[str | bytes, ...]:
        if len(request.arguments) > _MOST_ARGUMENTS:
            raise LedgerError(
                f"A call of a RedisLedger names at most {_MOST_ARGUMENTS:,} keys and limits, and "
                f"this one has {len(request.arguments):,}. Ask for fewer accounts at once."
            )
        at = "" if self._clock is None else str(round(self._clock() * _MICROS))
        return (request.operation, at, *request.arguments)

    def _answer(self, reply: list[Any]) -> Answer:
        """Take the time off a reply, and what it says about the store."""
        at, is_new, *answer = reply
        if answer[0] == b"layout":
            found, mine = (part.decode(errors="replace") for part in answer[1:])
            raise ConfigurationError(
                f"Namespace {self._namespace!r} on this Redis server has a ledger of layout "
                f"{found!r}, and this version of the package reads layout {mine!r}. Use the "
                f"version that wrote it, or another namespace."
            )
        server_s = int(at) / _MICROS
        # Of the first calls of several threads, the one that was first may be answered last.
        if is_new and 0.0 < self._latest < server_s:
            _LOG.error(
                "The Redis server has lost ledger %r since the last call: it was restarted without "
                "persistence, or emptied. All its budgets start from zero.",
                self._namespace,
            )
        self._ahead_s = server_s - time.monotonic()
        self._latest = max(self._latest, server_s)
        return answer

    def _time(self) -> float:
        if self._clock is None and self._ahead_s is not None:
            self._latest = max(self._latest, time.monotonic() + self._ahead_s)
        return self._latest


def _reply_to(request: Request[T]) -> Steps[T]:
    reply: T = yield request
    return reply


def _caller() -> str:
    """A number that tells this call from all others; Lua counts to 2^53."""
    return str(secrets.randbits(52))
