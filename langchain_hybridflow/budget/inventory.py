"""Which accounts there are in a ledger, whose they are, and how they stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote

from langchain_hybridflow.budget.about import ABOUT_PREFIX, BudgetDescription, about_key
from langchain_hybridflow.budget.accounts import BookEntry, account_entry, share_entry
from langchain_hybridflow.budget.admin import RESET_PREFIX, AdminLedger, Reset
from langchain_hybridflow.budget.alerts import alert_key
from langchain_hybridflow.budget.ledger import Ledger
from langchain_hybridflow.budget.pacing import Paced, price_from_note
from langchain_hybridflow.budget.share import ShareCap, share_scope
from langchain_hybridflow.budget.snapshot import ShareGauge
from langchain_hybridflow.budget.twins import Ask, Script, do
from langchain_hybridflow.budget.types import (
    Account,
    AccountState,
    Dimension,
    Limits,
    micros_to_usd,
)
from langchain_hybridflow.budget.windows import Window
from langchain_hybridflow.errors import ConfigurationError

__all__ = [
    "AccountName",
    "AccountRow",
    "empty_row",
    "inventory",
    "own_entries",
    "read_rows",
    "reset_row",
    "sorted_rows",
]

_NOTES: Final = (ABOUT_PREFIX, "alert/", "pace/")
_NOBODYS: Final = frozenset({"budget", "global", share_scope(), share_scope("global")})
"""Scopes of which a budget has one account, and no value in its key."""

_AT_ONCE: Final = 100  # accounts in one snapshot; a rolling window has thirteen keys


@dataclass(frozen=True, slots=True)
class AccountName:
    """What the key of an account says.

    Args:
        scope: Name of the scope.
        budget: The name of the budget, as it is written in the key.
        value: Whom the account is for; `None` if there is only one.
        window: Its window.
        stem: The key without the window.
    """

    scope: str
    budget: str
    value: str | None
    window: Window | None
    stem: str

    @classmethod
    def of(cls, key: str) -> AccountName | None:
        """Read a key that a budget made; `None` if it is none.

        Example:
            >>> name = AccountName.of("user/team/ada%2F1/day=2026-11-21")
            >>> name.scope, name.budget, name.value, str(name.window)
            ('user', 'team', 'ada/1', 'day')
            >>> AccountName.of("my own account") is None
            True
        """
        parts = key.split("/")
        fixed = 2 if parts[0] in _NOBODYS else 3
        if not fixed <= len(parts) <= fixed + 1 or not all(parts[:2]):
            return None
        window = None
        if len(parts) > fixed:
            window = _window_of(unquote(parts[fixed]))
            if window is None:
                return None
        value = unquote(parts[2]) if fixed > 2 else None
        return cls(parts[0], parts[1], value, window, "/".join(parts[:fixed]))

    def entry(self, limits: Limits, share: ShareCap | None = None) -> BookEntry:
        """What the account is made from, at any time."""
        name = self.scope if self.window is None else f"{self.scope}/{self.window}"
        return BookEntry(name, self.stem, self.scope, limits, self.window, share=share)


def _window_of(label: str) -> Window | None:
    """The window that `Window.keys` made an id for."""
    length, found, rest = label.partition("=")
    if not found:
        return None
    try:
        if length.startswith("last-"):
            return Window(length.removeprefix("last-"), rolling=True)
        zone = rest.partition("@")[2]
        return Window(length, tz=zone) if zone else Window(length)
    except ConfigurationError:
        return None


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account and how it stands.

    Args:
        budget: Name of its budget; the whole key if no budget made it.
        scope: Its scope; empty if no budget made it.
        value: Whom it is for; `None` if there is only one.
        window: Its window; `None` for ever.
        state: Its counters, with the limits that the budget has described.
        price: The shadow price, in quality per USD; `None` if it is not paced.
        label: Which window it is, if it is not the current one.
        share: The cap on a share of cloud calls whose bucket it is; `None` if it is none.
    """

    budget: str
    scope: str
    value: str | None
    window: Window | None
    state: AccountState
    price: float | None = None
    label: str | None = None
    share: ShareCap | None = None

    @property
    def gauge(self) -> ShareGauge | None:
        """How the cap on a share of cloud calls stands."""
        return None if self.share is None else ShareGauge.of(self.share, self.state)

    def fraction(self, dimension: Dimension) -> float | None:
        """The share of a limit that is spent or held; `None` without one."""
        limit: int | None = getattr(self.state.account.limits, dimension)
        if limit is None:
            return None
        taken: int = getattr(self.state.used, dimension) + getattr(self.state.held, dimension)
        return taken / limit if limit else 1.0

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types; USD as floats, as in `Budget.snapshot`."""
        state = self.state
        plain: dict[str, Any] = {
            "budget": self.budget,
            "scope": self.scope or None,
            "value": self.value,
            "window": None if self.window is None else str(self.window),
            "key": state.account.key,
        }
        if self.window is not None and self.label is None:
            starts_at, ends_at = self.window.span(state.at)
            plain |= {"starts_at": starts_at, "ends_at": ends_at}
        if self.label is not None:
            plain["past"] = self.label
        for name, dimension in _PEOPLE:
            limit: int | None = getattr(state.account.limits, dimension)
            plain[name] = {
                "limit": _people(dimension, limit),
                "spent": _people(dimension, getattr(state.used, dimension)),
                "held": _people(dimension, getattr(state.held, dimension)),
                "remaining": _people(dimension, state.remaining(dimension)),
                "overdraft": _people(dimension, getattr(state.overdraft, dimension)),
            }
        plain["shadow_price"] = self.price
        if self.gauge is not None:
            plain["cloud_share"] = self.gauge.to_json()
        return plain


_PEOPLE: Final[tuple[tuple[str, Dimension], ...]] = (
    ("usd", "usd_micros"),
    ("cloud_tokens", "cloud_tokens"),
    ("cloud_calls", "cloud_calls"),
)


def _people(dimension: Dimension, units: int | None) -> float | int | None:
    if units is None or dimension != "usd_micros":
        return units
    return float(micros_to_usd(units))


def own_entries(description: BudgetDescription) -> tuple[BookEntry, ...]:
    """The accounts of a budget that are nobody's: its own, and those of the scope "global"."""
    nobodys = [one for one in (description.own, *description.scopes) if one.scope in _NOBODYS]
    accounts = (
        account_entry(description.name, one.scope, one.limits, window=one.window) for one in nobodys
    )
    buckets = (
        share_entry(description.name, one.scope, one.share)
        for one in nobodys
        if one.share is not None
    )
    return (*accounts, *buckets)


def read_rows(entries: Sequence[tuple[BookEntry, AccountRow]]) -> Script[tuple[AccountRow, ...]]:
    """Read the current counters of accounts, and their prices.

    Args:
        entries: What the accounts are made from, each with a row that lacks nothing but these.
    """
    now: float = yield Ask("now")
    rows: list[AccountRow] = []
    for start in range(0, len(entries), _AT_ONCE):
        some = entries[start : start + _AT_ONCE]
        accounts = [
            row.state.account if row.label is not None else entry.account(now)
            for entry, row in some
        ]
        notes = [
            Account(Paced.of(entry, account).note_key, "pace")
            for (entry, _), account in zip(some, accounts, strict=True)
        ]
        states: tuple[AccountState, ...] = yield Ask("snapshot", ((*accounts, *notes),))
        half = len(some)
        for (_, row), state, noted in zip(some, states[:half], states[half:], strict=True):
            price = None if noted.note is None else price_from_note(noted.note.text)
            rows.append(replace(row, state=state, price=None if price is None else price.per_usd))
    return tuple(rows)


def inventory(
    ledger: AdminLedger,
    *,
    budget: str | None = None,
    past: bool = False,
    described: Iterable[BudgetDescription] = (),
) -> tuple[AccountRow, ...]:
    """Find all accounts of a ledger, with the limits that their budgets have described.

    Args:
        ledger: The ledger.
        budget: Name of one budget; all by default.
        past: Also the accounts of windows that are over, as long as they are kept.
        described: What is known of budgets, whatever the ledger says of them.

    Raises:
        LedgerUnavailable: If the store does not answer.

    Example:
        >>> from langchain_hybridflow.budget import Amounts, MemoryLedger
        >>> ledger, account = MemoryLedger(), Account("user/team/ada", "user")
        >>> lease = ledger.reserve("a", Amounts(cloud_calls=1), accounts=[account], ttl_s=60)
        >>> [(row.scope, row.value, row.state.held.cloud_calls) for row in inventory(ledger)]
        [('user', 'ada', 1)]
    """
    keys = ledger.list_keys()
    known = _descriptions(ledger, [key for key in keys if key.startswith(ABOUT_PREFIX)])
    known |= {about_key(one.name).removeprefix(ABOUT_PREFIX): one for one in described}
    counted = [key for key in keys if not key.startswith((*_NOTES, RESET_PREFIX))]
    now = ledger.now()
    found = {row.state.account.key: (entry, row) for entry, row in _described(known, now)}
    for key in counted:
        entry, row = _row_of(key, known, now)
        if row.label is None or past:
            found.setdefault(row.state.account.key, (entry, row))
    wanted = [one for one in found.values() if budget is None or one[1].budget == budget]
    return do(ledger, read_rows(wanted))


def _descriptions(ledger: Ledger, keys: Sequence[str]) -> dict[str, BudgetDescription]:
    """What budgets say of themselves, by their names as they are written in keys."""
    known: dict[str, BudgetDescription] = {}
    for start in range(0, len(keys), _AT_ONCE):
        accounts = [Account(key, "about") for key in keys[start : start + _AT_ONCE]]
        for state in ledger.snapshot(accounts):
            text = "" if state.note is None else state.note.text
            description = BudgetDescription.from_text(text)
            if description is not None:
                known[state.account.key.removeprefix(ABOUT_PREFIX)] = description
    return known


def _described(
    known: dict[str, BudgetDescription], now: float
) -> Iterator[tuple[BookEntry, AccountRow]]:
    """The accounts that must be there, used or not."""
    for description in known.values():
        for entry in own_entries(description):
            yield entry, empty_row(description.name, entry, now)


def empty_row(budget: str, entry: BookEntry, now: float) -> AccountRow:
    """A row of an account that is nobody's, without its counters."""
    state = AccountState(entry.account(now))
    return AccountRow(budget, entry.scope, None, entry.window, state, share=entry.share)


def _row_of(
    key: str, known: dict[str, BudgetDescription], now: float
) -> tuple[BookEntry, AccountRow]:
    name = AccountName.of(key)
    if name is None:  # an account that no budget made
        entry = BookEntry("", key, "", Limits())
        return entry, AccountRow(key, "", None, None, AccountState(Account(key, "")))
    description = known.get(name.budget)
    budget = unquote(name.budget) if description is None else description.name
    limits = None if description is None else description.limits_of(name.scope, name.window)
    share = None if description is None else description.share_of(name.scope)
    entry = name.entry(limits or (Limits() if share is None else share.limits), share)
    account = entry.account(now)
    label = None
    if key not in account.keys:
        account = Account(key, name.scope, entry.limits)
        label = unquote(key.rpartition("/")[2])
    state = AccountState(account)
    row = AccountRow(budget, name.scope, name.value, name.window, state, label=label, share=share)
    return entry, row


def sorted_rows(rows: Iterable[AccountRow]) -> list[AccountRow]:
    """Rows as people want them: budgets one after the other, their own account first, runs last."""
    order = {"budget": 0, share_scope(): 0, "global": 1, "allowance": 8, "run": 9}
    return sorted(
        rows,
        key=lambda row: (
            row.budget,
            order.get(row.scope, 5),
            row.scope,
            str(row.window or ""),
            -max(_pressures(row), default=0.0),
            row.value or "",
            row.label or "",
        ),
    )


def _pressures(row: AccountRow) -> list[float]:
    return [share for _, one in _PEOPLE if (share := row.fraction(one)) is not None]


def reset_row(ledger: AdminLedger, row: AccountRow, *, force: bool = False) -> tuple[Reset, ...]:
    """Let the account of a row begin anew, with all buckets of its window, and its alerts.

    Args:
        ledger: Where it is.
        row: The row, as `inventory` found it.
        force: Also if leases are open in it.

    Raises:
        LedgerError: If leases are open in it and it is not forced.
        LedgerUnavailable: If the store does not answer.
    """
    account = row.state.account
    there = {key for key in account.keys if ledger.list_keys(key)[:1] == (key,)}
    resets = tuple(ledger.reset(key, force=force) for key in account.keys if key in there)
    name = AccountName.of(account.key)
    if name is not None:
        claims = Account(alert_key(name.entry(account.limits), account.key), "alert")
        note = ledger.snapshot((claims,))[0].note
        if note is not None:
            ledger.swap_note(claims.key, expected_version=note.version, text="")
    return resets
