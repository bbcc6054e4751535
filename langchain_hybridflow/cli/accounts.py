"""Accounts of a ledger on the screen: the table, the burn-down, and plain lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from langchain_hybridflow.budget.inventory import AccountRow
from langchain_hybridflow.budget.types import (
    DIMENSIONS,
    Difference,
    Dimension,
    micros_to_usd,
)
from langchain_hybridflow.cli.display import dollars, one_line

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "BurnDown",
    "accounts_table",
    "clock_text",
    "differences_table",
    "duration",
    "plain_lines",
    "title",
]

_PLAIN: Final[dict[str, Any]] = {"box": None, "pad_edge": False, "padding": (0, 1, 0, 0)}
_UNITS: Final[dict[Dimension, str]] = {
    "usd_micros": "USD",
    "cloud_tokens": "tokens",
    "cloud_calls": "calls",
}
_BAR: Final = 10
_RATE_S: Final = 300.0  # over which time the rate of spending is taken
_RATE_AFTER_S: Final = 3.0  # before that it would jump
_HOUR_S: Final = 3_600.0
_NEARLY: Final = 0.8
_WIDEST: Final = 28  # what 80 columns leave to the names of accounts


def accounts_table(rows: Sequence[AccountRow]) -> Table:
    """Show accounts with all their counters, in 80 columns."""
    from rich.table import Table

    table = Table(**_PLAIN)
    table.add_column("account", overflow="fold", ratio=1)
    table.add_column("")
    for name in ("used", "held", "limit", "remaining", "overdraft"):
        table.add_column(name, justify="right", no_wrap=True)
    table.expand = True
    for row in rows:
        shown = _shown(row)
        cells = [_cells(row, dimension) for dimension in shown]
        columns = ["\n".join(column) for column in zip(*cells, strict=True)]
        style = _style(row)
        table.add_row("\n".join(_about(row)), *columns, style=style, end_section=True)
    return table


def _about(row: AccountRow) -> Iterator[str]:
    yield title(row, most=_WIDEST)
    if row.label is not None:
        yield f"  {one_line(row.label)}, over"
    elif row.window is not None:
        ends = "" if row.window.rolling else f", ends in {duration(_left_s(row))}"
        yield f"  {row.window}{ends}"
    if row.price is not None:
        yield f"  price {row.price:.3g} per USD"
    if row.gauge is not None:
        yield f"  {row.gauge.share:.1%} of {row.gauge.prompts:,}, cap {row.gauge.max_share:.3%}"


def title(row: AccountRow, *, most: int = 60) -> str:
    """What an account is called: budget, scope, and whom it is for.

    Example:
        >>> from langchain_hybridflow.budget import Account, AccountState
        >>> state = AccountState(Account("user/team/ada", "user"))
        >>> title(AccountRow("team", "user", "ada", None, state))
        'team user ada'
    """
    scope = "" if row.scope == "budget" else row.scope
    words = (row.budget, scope, row.value or "")
    return one_line(" ".join(word for word in words if word), most=most)


def _left_s(row: AccountRow) -> float:
    return 0.0 if row.window is None else row.window.span(row.state.at)[1] - row.state.at


def _shown(row: AccountRow) -> list[Dimension]:
    """The dimensions that are limited, or of which something was used."""
    state = row.state
    found = [
        dimension
        for dimension in DIMENSIONS
        if getattr(state.account.limits, dimension) is not None
        or getattr(state.used, dimension)
        or getattr(state.held, dimension)
    ]
    return found or ["usd_micros"]


def _cells(row: AccountRow, dimension: Dimension) -> tuple[str, ...]:
    state = row.state
    numbers = (
        getattr(state.used, dimension),
        getattr(state.held, dimension),
        getattr(state.account.limits, dimension),
        state.remaining(dimension),
        getattr(state.overdraft, dimension),
    )
    return (_UNITS[dimension], *(_number(dimension, number) for number in numbers))


def _number(dimension: Dimension, units: int | None) -> str:
    if units is None:
        return "-"
    return dollars(micros_to_usd(units)) if dimension == "usd_micros" else f"{units:,}"


def _style(row: AccountRow) -> str:
    fullest = max((row.fraction(dimension) or 0.0 for dimension in DIMENSIONS), default=0.0)
    if fullest >= 1:
        return "red"
    return "yellow" if fullest >= _NEARLY else ""


def plain_lines(rows: Sequence[AccountRow]) -> Iterator[str]:
    """One line for each number of each account, for logs and other programs.

    Example:
        >>> from langchain_hybridflow.budget import Account, AccountState, Amounts, Limits
        >>> state = AccountState(Account("budget/team", "budget", Limits(cloud_calls=9)), at=0.0)
        >>> print(*plain_lines([AccountRow("team", "budget", None, None, state)]))
        1970-01-01T00:00:00Z team calls: used 0, held 0, limit 9, remaining 9, overdraft 0
    """
    names = ("used", "held", "limit", "remaining", "overdraft")
    for row in rows:
        window = "" if row.window is None else f" ({row.window})"
        for dimension in _shown(row):
            unit, *cells = _cells(row, dimension)
            pairs = zip(names, cells, strict=True)
            said = ", ".join(f"{name} {cell}" for name, cell in pairs if cell != "-")
            yield f"{clock_text(row.state.at)} {title(row)}{window} {unit}: {said}"


def clock_text(at: float) -> str:
    """Write a time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: float) -> str:
    """Write a length of time in its largest unit.

    Example:
        >>> duration(42), duration(5_400), duration(400_000)
        ('42 s', '90 min', '4.63 d')
    """
    for unit, size, until in (("s", 1.0, 120.0), ("min", 60.0, 120.0), ("h", _HOUR_S, 48.0)):
        if seconds / size < until:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.3g} d"


@dataclass(slots=True)
class BurnDown:
    """What is left of each limit, how fast it goes, and how long it will last."""

    _seen: dict[tuple[str, Dimension], deque[tuple[float, int]]] = field(default_factory=dict)

    def table(self, rows: Sequence[AccountRow]) -> Table:
        """Take in new counters and show them."""
        from rich.table import Table

        table = Table(**_PLAIN)
        table.expand = True
        table.add_column("account", overflow="ellipsis", no_wrap=True, ratio=1)
        table.add_column("left", no_wrap=True)
        for name in ("remaining", "per hour", "lasts"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            window = "" if row.window is None else f" ({row.window})"
            for dimension in DIMENSIONS:
                limit: int | None = getattr(row.state.account.limits, dimension)
                if limit is None:
                    continue
                rate = self._rate(row, dimension)
                remaining = row.state.remaining(dimension) or 0
                table.add_row(
                    f"{title(row)}{window}",
                    _bar(remaining / limit if limit else 0.0, _UNITS[dimension]),
                    _number(dimension, remaining),
                    _per_hour(dimension, rate),
                    _lasts(row, remaining, rate),
                    style=_style(row),
                )
        return table

    def _rate(self, row: AccountRow, dimension: Dimension) -> float:
        """Units per second since the watch began, or over the last minutes."""
        used: int = getattr(row.state.used, dimension)
        seen = self._seen.setdefault((row.state.account.key, dimension), deque())
        if seen and used < seen[-1][1]:  # it began anew
            seen.clear()
        seen.append((row.state.at, used))
        while len(seen) > 2 and seen[0][0] < row.state.at - _RATE_S:
            seen.popleft()
        since, before = seen[0]
        took_s = row.state.at - since
        return (used - before) / took_s if took_s >= _RATE_AFTER_S else 0.0


def _bar(share: float, unit: str) -> str:
    full = round(share * _BAR)
    return f"{'█' * full}{'░' * (_BAR - full)} {share:>4.0%} {unit}"


def _per_hour(dimension: Dimension, rate: float) -> str:
    if not rate:
        return "-"
    hourly = rate * _HOUR_S
    if dimension == "usd_micros":
        return dollars(Decimal(round(hourly)) / 1_000_000)
    return f"{hourly:,.0f}"


def _lasts(row: AccountRow, remaining: int, rate: float) -> str:
    if not remaining:
        return "used up"
    if not rate:
        return "-"
    lasts_s = remaining / rate
    if row.window is not None and not row.window.rolling and lasts_s >= _left_s(row):
        return "to the end"
    return duration(lasts_s)


def differences_table(differences: Sequence[Difference]) -> Table:
    """Show counters that are not what the journal says."""
    from rich.table import Table

    table = Table(**_PLAIN)
    table.expand = True
    table.add_column("account", overflow="fold", ratio=1)
    table.add_column("column")
    table.add_column("")
    table.add_column("counted", justify="right", no_wrap=True)
    table.add_column("journal", justify="right", no_wrap=True)
    for one in differences:
        table.add_row(
            one_line(one.key),
            one.column,
            _UNITS[one.dimension],
            _signed(one.dimension, one.counted),
            _signed(one.dimension, one.journal),
        )
    return table


def _signed(dimension: Dimension, units: int) -> str:
    sign = "-" if units < 0 else ""
    return sign + _number(dimension, abs(units))
