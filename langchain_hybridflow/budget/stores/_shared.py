"""What stores have in common: checks, how SQL writes values down, a clock, and cancellation."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from langchain_hybridflow.budget.types import Account, AccountState, Amounts, Limits, Note
from langchain_hybridflow.errors import ConfigurationError, LedgerError

__all__ = [
    "BATCH",
    "CHORES_EVERY",
    "DAY_S",
    "Clock",
    "SteadyClock",
    "accounts_from_json",
    "accounts_to_json",
    "check_amounts",
    "check_namespace",
    "finished",
    "states_of",
]

DAY_S = 86_400.0

BATCH = 256
"""How many leases one transaction settles or forgets beside its own work: it stays short."""

CHORES_EVERY = 64
"""Every how many calls of a process old records are cleared away; less than `BATCH`, so that
clearing is faster than writing."""

Clock = Callable[[], float]

_T = TypeVar("_T")

# Sums of very many of these still fit into the 64 bits that databases have.
_MAX_AMOUNT = 10**15
_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


def check_amounts(amounts: Amounts) -> Amounts:
    """Return amounts that fit into the integers of a database.

    Raises:
        LedgerError: If one is above 10**15 (a thousand million USD in micro-USD).
    """
    if max(amounts) > _MAX_AMOUNT:
        raise LedgerError(f"A ledger counts at most {_MAX_AMOUNT:.0e} at once, not {amounts}.")
    return amounts


def check_namespace(namespace: str) -> str:
    """Return a namespace that can stand in the name of a table or schema.

    Raises:
        ConfigurationError: If it has other characters than letters, digits and underscores, starts
            with a digit, or is longer than 40.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise ConfigurationError(
            f"namespace must be 1 to 40 letters, digits and underscores, and not start with a "
            f"digit: {namespace[:60]!r}. It becomes part of the names of the tables."
        )
    return namespace


@lru_cache(maxsize=1024)
def accounts_to_json(accounts: tuple[Account, ...]) -> str:
    """Write accounts down, so that the lease says where it is held whatever happens.

    Example:
        >>> accounts_to_json((Account("a", "run", Limits(usd="0.05"), keep_s=60),))
        '[["a","run",["0.05",null,null],[],60]]'
    """
    rows = [
        [account.key, account.scope, _limits_row(account.limits), account.earlier, account.keep_s]
        for account in accounts
    ]
    return json.dumps(rows, separators=(",", ":"))


def _limits_row(limits: Limits) -> tuple[str | None, int | None, int | None]:
    usd = None if limits.usd is None else str(limits.usd)
    return usd, limits.cloud_tokens, limits.cloud_calls


@lru_cache(maxsize=1024)
def accounts_from_json(text: str) -> tuple[Account, ...]:
    """Read what `accounts_to_json` has written."""
    return tuple(
        Account(key, scope, Limits(*limits), tuple(earlier), keep_s)
        for key, scope, limits, earlier, keep_s in json.loads(text)
    )


class SteadyClock:
    """Epoch seconds that never go back, though the wall clock of the machine may be set back.

    It goes on from the latest time it knows of, at the pace of the monotonic clock.

    Args:
        clock: Replaces the clock of the machine, for tests.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self._latest = (float("-inf"), 0.0)

    def read(self, seen: float = float("-inf")) -> float:
        """The time, which is never below `seen`, the latest time that is known from elsewhere."""
        # No lock: the clock of a test may settle leases. Two threads that race here can at worst
        # forget the other's microseconds.
        if self._clock is not None:
            wall, ticks = self._clock(), 0.0
        else:
            wall, ticks = time.time(), time.monotonic()
        latest, latest_ticks = self._latest
        now = max(wall, seen, latest + (ticks - latest_ticks))
        self._latest = (now, ticks)
        return now


async def finished(
    work: Awaitable[tuple[_T, bool]], *, undo: Callable[[], Awaitable[object]]
) -> _T:
    """Await work that a cancellation must not cut in two.

    Args:
        work: What it finds, and whether that is new, so that a cancellation has to undo it.
        undo: Awaited if the task was cancelled and the work, brought to its end, made new things.
    """
    task = asyncio.ensure_future(work)
    try:
        return (await asyncio.shield(task))[0]
    except asyncio.CancelledError:
        await _insist(task)
        if not task.cancelled() and task.exception() is None and task.result()[1]:
            await _insist(asyncio.ensure_future(undo()))
        raise


async def _insist(task: asyncio.Future[_T]) -> None:
    """Wait for the end of a task, though the waiter be cancelled again and again."""
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue
    if not task.cancelled():
        task.exception()  # seen: asyncio need not complain about it


def states_of(
    accounts: Sequence[Account], rows: Mapping[str, Sequence[Any]], *, at: float
) -> tuple[AccountState, ...]:
    """The states of accounts, of the rows of their keys.

    Args:
        accounts: Whose states are asked for.
        rows: By key: three each of used, held and overdraft, then version and text of the note;
            `None` for what there is none of.
        at: The instant that the rows are of, in epoch seconds.
    """
    return tuple(_state(account, rows, at) for account in accounts)


def _state(account: Account, rows: Mapping[str, Sequence[Any]], at: float) -> AccountState:
    found = [row for key in account.keys if (row := rows.get(key)) and row[0] is not None]
    totals = [sum(row[n] for row in found) for n in range(9)]
    own = rows.get(account.key)
    return AccountState(
        account,
        used=Amounts(*totals[0:3]),
        held=Amounts(*totals[3:6]),
        overdraft=Amounts(*totals[6:9]),
        at=at,
        note=None if own is None or own[9] is None else Note(own[9], own[10]),
    )
