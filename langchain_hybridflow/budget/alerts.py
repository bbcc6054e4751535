"""Tell somebody when a share of a limit is spent, once for each account and window."""

from __future__ import annotations

import inspect
import json
import logging
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from langchain_hybridflow.budget.accounts import BookEntry
from langchain_hybridflow.budget.twins import Ask, Script
from langchain_hybridflow.budget.types import (
    DIMENSIONS,
    Account,
    AccountState,
    Amounts,
    Denial,
    Dimension,
    Limits,
    Note,
    micros_to_usd,
)
from langchain_hybridflow.errors import ConfigurationError, LedgerError

__all__ = [
    "ALERT_AT",
    "AlertCallback",
    "Alerts",
    "BudgetAlert",
    "alert_key",
    "checked_fractions",
]

logger = logging.getLogger(__name__)

ALERT_AT: Final = (0.5, 0.8, 1.0)
"""The shares of a limit that alerts are given at, unless others are named."""

_MOST_FRACTIONS: Final = 10
_WATCHED: Final = 10_000  # accounts that a process remembers; an alert beyond asks the ledger again
_TRIES: Final = 8


@dataclass(frozen=True, slots=True)
class BudgetAlert:
    """A share of a limit is spent.

    Args:
        budget: Name of the budget.
        scope: Whose limit it is, such as `"budget"` or `"user"`.
        account: Key of the account in the ledger; it tells which user.
        window: For how long the limit is, such as `"day"`; `None` for ever.
        dimension: `"usd"`, `"cloud_tokens"` or `"cloud_calls"`.
        spent: What was spent, in the dimension's own unit (USD, tokens or calls).
        limit: The limit, in the same unit.
        fraction: The share that was reached.
    """

    budget: str
    scope: str
    account: str
    window: str | None
    dimension: str
    spent: Decimal | int
    limit: Decimal | int
    fraction: float


AlertCallback: TypeAlias = Callable[[BudgetAlert], object]
"""Is told; a plain function, which must not block."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """A share of one limit, in ledger units."""

    index: int
    fraction: float
    units: int

    @property
    def dimension(self) -> Dimension:
        return DIMENSIONS[self.index]

    @property
    def name(self) -> str:
        """As it stands in the note."""
        return f"{self.dimension} {self.fraction:g}"


@dataclass(slots=True)
class _Watched:
    """What a process knows of an account."""

    used: list[int] = field(default_factory=lambda: [0, 0, 0])
    told: dict[_Mark, float] = field(default_factory=dict)  # when, by the ledger's clock


class Alerts:
    """One process's share in the alerts of a budget; safe to share by threads.

    It reads along: the snapshot that is taken for each routed call shows what is spent, and between
    two of them what this process books is added up. Only when a mark seems to be reached is the
    ledger asked, and the alert claimed in a note by compare-and-set, so that of several processes
    one tells. The claim comes before the call: an alert is lost if the process dies in
    between, and never told twice.

    Args:
        budget: Name of the budget.
        tell: Who is told. What it raises is logged, and goes no further.
        at: The shares of a limit, each above 0 and at most 1.

    Raises:
        ConfigurationError: `tell` is no plain function, or a share is none.

    Example:
        >>> alerts = Alerts("team", print, at=(0.8,))
    """

    def __init__(self, budget: str, tell: AlertCallback, *, at: Sequence[float] = ALERT_AT) -> None:
        given: object = tell
        if not callable(given) or inspect.iscoroutinefunction(given):
            raise ConfigurationError(
                f"on_alert is a plain function of one BudgetAlert, not an async one, and not "
                f"{tell!r}. To go on in an event loop, let it call loop.call_soon_threadsafe."
            )
        self._budget = budget
        self._tell = tell
        self._at = checked_fractions(at)
        # A swap whose reply was lost is found again by the name of who made it.
        self._name = uuid.uuid4().hex[:8]
        self._lock = threading.RLock()  # reentrant, for the reason given in `MemoryLedger`
        self._watched: OrderedDict[str, _Watched] = OrderedDict()
        self._marks: dict[Limits, tuple[_Mark, ...]] = {}

    def seen(self, entries: Iterable[BookEntry], states: Iterable[AccountState]) -> Script[None]:
        """Look at counters that were read anyway.

        Args:
            entries: What the accounts were made from, with their true limits.
            states: Their counters, in the same order.
        """
        for entry, state in zip(entries, states, strict=False):  # there may be an allowance's, too
            if entry.is_watched:
                due = self._due(entry, state.account.key, tuple(state.used), state.at)
                if due:
                    yield from self._claim(entry, state.account.key, due, state.used, state.at)

    def booked(
        self, entries: Sequence[BookEntry], accounts: tuple[Account, ...], actual: Amounts
    ) -> Script[None]:
        """Look at the counters, if what was booked just now may have reached a mark."""
        near = False
        for entry, account in zip(entries, accounts, strict=True):
            if entry.is_watched:
                near |= self._near(entry, account.key, actual)
        if near:
            with suppress(LedgerError):  # the commit stands, and the next call looks again
                states: tuple[AccountState, ...] = yield Ask("snapshot", (accounts,))
                yield from self.seen(entries, states)

    def refused(
        self, entries: Iterable[BookEntry], accounts: Iterable[Account], denial: Denial
    ) -> Script[None]:
        """A limit is used up, too, if a call does not fit, though nothing else were held."""
        if denial.requested <= denial.remaining + denial.held:
            return
        index = DIMENSIONS.index(denial.dimension)
        for entry, account in zip(entries, accounts, strict=True):
            if (
                entry.is_watched
                and entry.scope == denial.scope
                and tuple(entry.limits)[index] == denial.limit
            ):
                now: float = yield Ask("now")
                due = [
                    mark
                    for mark in self._untold(entry, account.key, now)
                    if mark.index == index and mark.fraction == 1
                ]
                if due:
                    used = [0, 0, 0]
                    used[index] = max(0, denial.limit - denial.remaining - denial.held)
                    yield from self._claim(entry, account.key, due, Amounts(*used), now)
                return

    def _due(self, entry: BookEntry, key: str, used: tuple[int, ...], now: float) -> list[_Mark]:
        """The marks that are reached, and that this process has not heard of."""
        watched = self._of(alert_key(entry, key))
        watched.used[:] = used
        for mark in list(watched.told):
            # Below its mark again, an account was reset. One whose limit was found used up by a
            # refusal may always have been.
            if used[mark.index] < mark.units and (mark.fraction < 1 or not used[mark.index]):
                watched.told.pop(mark, None)
        return [mark for mark in self._untold(entry, key, now) if used[mark.index] >= mark.units]

    def _untold(self, entry: BookEntry, key: str, now: float) -> list[_Mark]:
        told = self._of(alert_key(entry, key)).told
        return [
            mark
            for mark in self._marks_of(entry.limits)
            if mark not in told or _is_over(told[mark], entry, now)
        ]

    def _near(self, entry: BookEntry, key: str, actual: Amounts) -> bool:
        watched = self._of(alert_key(entry, key))
        for index, number in enumerate(actual):
            watched.used[index] += number
        return any(
            watched.used[mark.index] >= mark.units and mark not in watched.told
            for mark in self._marks_of(entry.limits)
        )

    def _claim(
        self, entry: BookEntry, key: str, due: Sequence[_Mark], used: Amounts, now: float
    ) -> Script[None]:
        """Agree with the other processes on who tells, and tell."""
        try:
            mine = yield from self._claimed(entry, alert_key(entry, key), due, now)
        except LedgerError as error:
            logger.debug("An alert waits for the ledger: %s", error)
            return
        if mine is None:
            return
        watched = self._of(alert_key(entry, key))
        with self._lock:
            # Another thread may have told it while this one asked.
            untold = self._untold(entry, key, now)
            mine = [mark for mark in mine if mark in untold]
            watched.told.update(dict.fromkeys(due, now))
        for mark in mine:
            self._call(_alert(self._budget, entry, key, mark, used))

    def _claimed(
        self, entry: BookEntry, note_key: str, due: Sequence[_Mark], now: float
    ) -> Script[list[_Mark] | None]:
        """The marks that are this process's to tell; `None` if that could not be settled."""
        states: tuple[AccountState, ...] = yield Ask("snapshot", ((Account(note_key, "alert"),),))
        note = states[0].note or Note()
        keep_s = entry.keep_s if entry.window is None else 2 * entry.window.keep_s
        for _ in range(_TRIES):
            claims = _read(note.text)
            free = [
                mark
                for mark in due
                if mark.name not in claims or _is_over(claims[mark.name][0], entry, now)
            ]
            mine = [
                mark
                for mark in due
                if mark in free or claims.get(mark.name, (0.0, ""))[1] == self._name
            ]
            if not free:
                return mine
            claims |= {mark.name: (round(now, 3), self._name) for mark in free}
            text = json.dumps(claims, separators=(",", ":"))
            options = {"expected_version": note.version, "text": text, "keep_s": keep_s}
            standing: Note = yield Ask("swap_note", (note_key,), options)
            if (standing.version, standing.text) == (note.version + 1, text):
                return mine
            note = standing
        return None

    def _call(self, alert: BudgetAlert) -> None:
        try:
            self._tell(alert)
        except Exception:
            logger.exception(
                "on_alert failed, at %g of the %s limit of scope %r.",
                alert.fraction,
                alert.dimension,
                alert.scope,
            )

    def _of(self, key: str) -> _Watched:
        with self._lock:
            watched = self._watched.get(key)
            if watched is None:
                watched = self._watched[key] = _Watched()
                if len(self._watched) > _WATCHED:
                    self._watched.popitem(last=False)
            return watched

    def _marks_of(self, limits: Limits) -> tuple[_Mark, ...]:
        marks = self._marks.get(limits)
        if marks is None:
            marks = self._marks[limits] = tuple(
                _Mark(index, fraction, _units(limit, fraction))
                for index, limit in enumerate(limits)
                if limit  # of nothing there is no half
                for fraction in self._at
            )
        return marks


def alert_key(entry: BookEntry, key: str) -> str:
    """The key of the note in which alerts of an account are claimed.

    A rolling window has one for all of its buckets.
    """
    if entry.window is not None and entry.window.rolling:
        return f"alert/{entry.stem}/{quote(str(entry.window), safe='@')}"
    return f"alert/{key}"


def checked_fractions(at: object) -> tuple[float, ...]:
    """Return the shares of a limit in order.

    Raises:
        ConfigurationError: There are none or more than ten, or one is not above 0 and at most 1.

    Example:
        >>> checked_fractions([1, 0.5])
        (0.5, 1.0)
    """
    given: list[Any] = list(at) if isinstance(at, Iterable) and not isinstance(at, str) else [at]
    for fraction in given:
        number = isinstance(fraction, int | float) and not isinstance(fraction, bool)
        if not number or not 0 < fraction <= 1:
            raise ConfigurationError(
                f"alert_at holds shares of a limit, above 0 and at most 1, not {fraction!r}."
            )
    fractions = tuple(sorted({float(fraction) for fraction in given}))
    if not 1 <= len(fractions) <= _MOST_FRACTIONS:
        raise ConfigurationError(f"alert_at holds 1 to {_MOST_FRACTIONS} shares, not {at!r}.")
    return fractions


def _units(limit: int, fraction: float) -> int:
    """The least amount that is such a share of a limit."""
    numerator, denominator = Decimal(str(fraction)).as_integer_ratio()
    return max(1, -(-limit * numerator // denominator))


def _read(text: str) -> dict[str, tuple[float, str]]:
    """When and by whom each mark was claimed.

    If nobody can read the note, none was: an alert too many does no harm.
    """
    try:
        claims = json.loads(text) if text else {}
        return {str(name): (float(at), str(by)) for name, (at, by) in claims.items()}
    except (AttributeError, TypeError, ValueError):
        return {}


def _is_over(at: float, entry: BookEntry, now: float) -> bool:
    """Whether what was told at a time may be told again: a rolling window has no end."""
    window = entry.window
    return window is not None and window.rolling and now - at >= window.seconds


def _alert(budget: str, entry: BookEntry, key: str, mark: _Mark, used: Amounts) -> BudgetAlert:
    spent, limit = tuple(used)[mark.index], tuple(entry.limits)[mark.index] or 0
    money = mark.dimension == "usd_micros"
    return BudgetAlert(
        budget=budget,
        scope=entry.scope,
        account=key,
        window=None if entry.window is None else str(entry.window),
        dimension="usd" if money else mark.dimension,
        spent=micros_to_usd(spent) if money else spent,
        limit=micros_to_usd(limit) if money else limit,
        fraction=mark.fraction,
    )
