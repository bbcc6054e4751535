"""Going on without the store, within a cap of this process, and telling the store afterwards."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from langchain_hybridflow.budget.allowance import plain_amounts
from langchain_hybridflow.budget.ledger import Ledger
from langchain_hybridflow.budget.memory import MemoryLedger
from langchain_hybridflow.budget.scripted import ScriptedLedger
from langchain_hybridflow.budget.share import Refill
from langchain_hybridflow.budget.twins import Ask, Script, ado, do
from langchain_hybridflow.budget.types import (
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    Limits,
    Note,
    Reconciliation,
)
from langchain_hybridflow.errors import ConfigurationError, LedgerError, LedgerUnavailable

__all__ = ["FailOpenLedger"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_KNOWN: Final = 1_024
_AT_ONCE: Final = 16
_MOST_PROMPTS: Final = 1_024
"""Prompts that are counted late; those beyond are not, so that buckets fill more slowly."""


@dataclass(frozen=True, slots=True)
class _Late:
    """What the store has not heard of: a cost, a release (without a cost), or a refill."""

    lease_id: str
    accounts: tuple[Account, ...]
    actual: Amounts | None
    refills: tuple[Refill, ...] = ()


class FailOpenLedger(ScriptedLedger):
    """A ledger that lets calls go on, up to a cap of this process, while its store is down.

    As long as the store answers, this is the store. When it does not, what is reserved here is
    held against `local_limits` in the memory of this process instead: each of n processes can
    then spend that much, and no more, past what the store knows, whoever the calls are for. After
    `retry_s` the store is asked again. When it answers, what was spent meanwhile is booked there,
    into the accounts that it belongs to, as overdraft; so it counts against the limits from then
    on. If the process ends before, it is lost to the store: a warning in the log says how much
    is not booked whenever the store goes, and so does `status()`.

    The cap is for the whole life of this object: an unsteady store does not renew it. A share of
    cloud calls is not checked without the store; of the prompts that are answered meanwhile, the
    first 1,024 count.

    Args:
        ledger: The store.
        local_limits: What this process may spend without it.
        retry_s: Seconds for which a store that did not answer is left alone.
        clock: Seconds, monotonic.

    Raises:
        ConfigurationError: There are no local limits, or `retry_s` is not positive.

    Example:
        >>> from langchain_hybridflow.budget import MemoryLedger
        >>> ledger = FailOpenLedger(MemoryLedger(), Limits(cloud_calls=10))
        >>> ledger.status()["answers"]
        True
    """

    def __init__(
        self,
        ledger: Ledger,
        local_limits: Limits,
        *,
        retry_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not local_limits:
            raise ConfigurationError(
                "A ledger that fails open needs limits for what is spent without its store, such "
                "as Limits(usd=1): without any, nothing would be limited while it is down."
            )
        if not retry_s > 0:
            raise ConfigurationError(f"retry_s must be positive, not {retry_s!r}.")
        self.ledger = ledger
        self.local_limits = local_limits
        self._retry_s = retry_s
        self._clock = clock
        self._here = MemoryLedger()
        self._cap = Account("fail-open", "fail-open cap", local_limits)
        self._lock = threading.RLock()
        self._open_here: dict[str, tuple[Amounts, tuple[Account, ...]]] = {}
        self._open_there: dict[str, Lease] = {}
        self._late: OrderedDict[str, _Late] = OrderedDict()
        self._known: OrderedDict[str, AccountState] = OrderedDict()
        self._error: LedgerUnavailable | None = None
        self._ask_again_at = 0.0
        self._ahead_s = time.time() - clock()

    def status(self) -> dict[str, Any]:
        """Say in plain JSON types whether the store answers, and what it has not been told."""
        with self._lock:
            self._expire_here()
            told = [late.actual for late in self._late.values() if late.actual is not None]
            open_ = [amounts for amounts, _ in self._open_here.values()]
            spent = self._here.snapshot((self._cap,))[0].used
            return {
                "answers": self._error is None,
                "error": None if self._error is None else str(self._error),
                "unbooked": plain_amounts(sum(told, NOTHING)),
                "held_here": plain_amounts(sum(open_, NOTHING)),
                "spent_without_store": plain_amounts(spent),
            }

    def close(self) -> None:
        """Tell the store what it has missed, if it answers, and free its connections."""
        do(self.ledger, self._closing())

    async def aclose(self) -> None:
        """Do what `close` does, without blocking the event loop."""
        await ado(self.ledger, self._closing())

    # ------------------------------------------------------------------ one logic for both faces

    def _do(self, script: Script[T]) -> T:
        return do(self.ledger, script)

    async def _ado(self, script: Script[T]) -> T:
        return await ado(self.ledger, script)

    def _there(self, ask: Ask) -> Script[Any]:
        """Ask the store, after telling it what it has missed.

        Raises:
            LedgerUnavailable: It does not answer, or did not a moment ago.
        """
        if self._error is not None and self._is_left_alone():
            raise self._error.with_traceback(None)  # which would grow with each time it is raised
        try:
            yield from self._catch_up()
            reply = yield ask
        except LedgerUnavailable as error:
            self._went(error)
            raise
        if self._error is not None:
            self._error = None
            logger.warning("The store of the ledger answers again.")
        return reply

    def _is_left_alone(self) -> bool:
        return self._error is not None and self._clock() < self._ask_again_at

    def _went(self, error: LedgerUnavailable) -> None:
        first, self._error = self._error is None, error
        self._ask_again_at = self._clock() + self._retry_s
        if first:
            left = self._here.snapshot((self._cap,))[0]
            logger.warning(
                "%s Until then this process may spend %s, of which %s is used up.",
                error,
                self.local_limits,
                plain_amounts(left.used + left.held),
            )

    def _catch_up(self) -> Script[None]:
        """Tell the store about a number of settlements that it has missed."""
        self._expire_here()
        for _ in range(_AT_ONCE):
            with self._lock:
                if not self._late:
                    return
                lease_id, late = self._late.popitem(last=False)
            try:
                yield from self._book(late)
            except LedgerError as error:
                if isinstance(error, LedgerUnavailable):
                    self._put_back(late)
                    raise
                logger.error("What lease %s cost, %s, is not booked: %s", lease_id, late, error)  # noqa: TRY400 - the message says it all
            except BaseException:  # cancelled: it is safe to be sent again
                self._put_back(late)
                raise

    def _put_back(self, late: _Late) -> None:
        with self._lock:
            self._late[late.lease_id] = late
            self._late.move_to_end(late.lease_id, last=False)  # a refill comes after its call

    def _book(self, late: _Late) -> Script[None]:
        if late.refills:
            yield Ask("refill", (late.lease_id, late.refills))
            return
        if late.actual is None:
            yield Ask("release", (late.lease_id,))
            return
        try:
            # The store may have granted it before it went, unheard.
            yield Ask("commit", (late.lease_id, late.actual))
        except LedgerUnavailable:
            raise
        except LedgerError:  # it has not
            accounts = [replace(account, limits=Limits()) for account in late.accounts]
            options = {"accounts": accounts, "ttl_s": 60.0}
            yield Ask("reserve", (late.lease_id, NOTHING), options)
            yield Ask("commit", (late.lease_id, late.actual))

    def _now(self) -> Script[float]:
        if self._is_left_alone():  # one that has never answered would be waited for each time
            return self._clock() + self._ahead_s
        try:
            now: float = yield Ask("now")
        except LedgerUnavailable as error:
            self._went(error)
            return self._clock() + self._ahead_s
        self._ahead_s = now - self._clock()
        return now

    def _reserve(
        self, lease_id: str, amounts: Amounts, accounts: tuple[Account, ...], ttl_s: float
    ) -> Script[Lease | Denial]:
        is_asked = lease_id not in self._open_here and not self._is_left_alone()
        if is_asked:
            ask = Ask("reserve", (lease_id, amounts), {"accounts": accounts, "ttl_s": ttl_s})
            try:
                answer: Lease | Denial = yield from self._there(ask)
            except LedgerUnavailable:
                pass
            else:
                if isinstance(answer, Lease):
                    self._remember(answer)
                return answer
        with self._lock:
            self._expire_here()
            held = self._here.reserve(lease_id, amounts, accounts=(self._cap,), ttl_s=ttl_s)
            if isinstance(held, Denial):
                if is_asked:  # the store may have granted it, unheard
                    self._late[lease_id] = _Late(lease_id, accounts, None)
                return held
            self._open_here[lease_id] = (amounts, accounts)
            return replace(held, accounts=accounts)

    def _remember(self, lease: Lease) -> None:
        """Keep what is needed to book it late; those that nobody settled are forgotten in time."""
        with self._lock:
            self._open_there[lease.id] = lease
            if len(self._open_there) % _KNOWN == 0:
                now = self._clock() + self._ahead_s
                open_ = self._open_there.items()
                self._open_there = {key: one for key, one in open_ if one.expires_at > now}

    def _extend(self, lease_id: str, ttl_s: float) -> Script[Lease]:
        with self._lock:
            self._expire_here()
            if lease_id in self._open_here:
                lease = self._here.extend(lease_id, ttl_s)
                return replace(lease, accounts=self._open_here[lease_id][1])
        try:
            later: Lease = yield from self._there(Ask("extend", (lease_id, ttl_s)))
        except LedgerUnavailable:
            known = self._open_there.get(lease_id)
            if known is None:
                raise
            return known  # if it expires meanwhile, its cost is booked all the same
        return later

    def _settle(self, lease_id: str, actual: Amounts | None) -> Script[bool]:
        with self._lock:
            self._expire_here()
            mine = self._open_here.pop(lease_id, None)
            if mine is not None:
                if actual is None:
                    self._here.release(lease_id)
                else:
                    self._here.commit(lease_id, actual)
                self._late[lease_id] = _Late(lease_id, mine[1], actual)
                return True
        lease = self._open_there.get(lease_id)
        ask = Ask("release", (lease_id,)) if actual is None else Ask("commit", (lease_id, actual))
        try:
            settled: bool = yield from self._there(ask)
        except LedgerUnavailable:
            self._late[lease_id] = _Late(lease_id, lease.accounts if lease else (), actual)
            settled = lease is not None
        self._open_there.pop(lease_id, None)
        return settled

    def _expire(self) -> Script[tuple[Lease, ...]]:
        here = self._expire_here()
        try:
            there: tuple[Lease, ...] = yield from self._there(Ask("expire"))
        except LedgerUnavailable:
            return here
        for lease in there:
            self._open_there.pop(lease.id, None)
        return (*here, *there)

    def _expire_here(self) -> tuple[Lease, ...]:
        """Charge what was reserved here and never settled; the store will be told."""
        with self._lock:
            over = []
            for lease in self._here.expire():
                amounts, accounts = self._open_here.pop(lease.id)
                self._late[lease.id] = _Late(lease.id, accounts, amounts)
                over.append(replace(lease, accounts=accounts))
            return tuple(over)

    def _snapshot(self, accounts: tuple[Account, ...]) -> Script[tuple[AccountState, ...]]:
        try:
            states: tuple[AccountState, ...] = yield from self._there(Ask("snapshot", (accounts,)))
        except LedgerUnavailable:
            now = yield from self._now()
            with self._lock:
                return tuple(self._guess(account, now) for account in accounts)
        with self._lock:
            for state in states:
                self._known[state.account.key] = state
                self._known.move_to_end(state.account.key)
            while len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return states

    def _guess(self, account: Account, now: float) -> AccountState:
        """What the counters of an account must be by now, as far as this process knows."""
        state = self._known.get(account.key, AccountState(account))
        late = [
            one.actual
            for one in self._late.values()
            if one.actual is not None and account.key in {place.key for place in one.accounts}
        ]
        held = [
            amounts
            for amounts, places in self._open_here.values()
            if account.key in {place.key for place in places}
        ]
        missed = sum(late, NOTHING)
        return replace(
            state,
            account=account,
            used=state.used + missed,
            held=state.held + sum(held, NOTHING),
            overdraft=state.overdraft + missed,
            at=now,
        )

    def _swap_note(
        self, key: str, expected_version: int, text: str, keep_s: float | None
    ) -> Script[Note]:
        options = {"expected_version": expected_version, "text": text, "keep_s": keep_s}
        try:
            note: Note = yield from self._there(Ask("swap_note", (key,), options))
        except LedgerUnavailable:
            known = self._known.get(key)
            return (known.note if known is not None else None) or Note()
        return note

    def _refill(self, refill_id: str, refills: tuple[Refill, ...]) -> Script[bool]:
        try:
            counted: bool = yield from self._there(Ask("refill", (refill_id, refills)))
        except LedgerUnavailable:
            with self._lock:
                known = refill_id in self._late
                waiting = sum(1 for late in self._late.values() if late.refills)
                if refills and waiting < _MOST_PROMPTS:
                    self._late[refill_id] = _Late(refill_id, (), None, refills)
            return not known
        return counted

    def _reconcile(self, *, repair: bool) -> Script[Reconciliation]:
        found: Reconciliation = yield from self._there(Ask("reconcile", (), {"repair": repair}))
        return found

    def _closing(self) -> Script[None]:
        self._ask_again_at = 0.0  # there is no later time to tell it
        try:
            while self._late:
                yield from self._there(Ask("expire"))
        except LedgerUnavailable:
            told = [late.actual for late in self._late.values() if late.actual is not None]
            logger.warning(
                "The store was not told of %s, spent without it.",
                plain_amounts(sum(told, NOTHING)),
            )
        yield Ask("close")
