"""A budget as numbers for monitoring: gauges, and Prometheus' text of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from langchain_hybridflow.budget.about import BudgetDescription
from langchain_hybridflow.budget.admin import admin_of
from langchain_hybridflow.budget.inventory import (
    AccountRow,
    empty_row,
    inventory,
    own_entries,
    read_rows,
)
from langchain_hybridflow.budget.ledger import Ledger
from langchain_hybridflow.budget.twins import Ask, Script, do
from langchain_hybridflow.budget.types import DIMENSIONS, Amounts, Dimension
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.telemetry.names import BUDGET_GAUGES

__all__ = ["GAUGES", "BudgetGauge", "GaugeDetail", "all_gauges", "own_gauges", "prometheus_text"]

GaugeDetail: TypeAlias = Literal["own", "sum", "each"]
"""Which accounts are shown: the budget's own; sums over those of each scope, too; or each alone."""

GAUGES: Final = BUDGET_GAUGES
"""The names of all gauges, and what they are."""


@dataclass(frozen=True, slots=True)
class BudgetGauge:
    """One number.

    Args:
        name: One of `GAUGES`.
        labels: What it is of: `budget`, `scope`, and, where it applies, `window`, `dimension`
            (`usd`, `cloud_tokens` or `cloud_calls`) and `value`, whom the account is for.
        value: In the unit of the dimension: USD, tokens or calls.
    """

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


def own_gauges(description: BudgetDescription) -> Script[tuple[BudgetGauge, ...]]:
    """Read the gauges of the accounts that are nobody's."""
    now: float = yield Ask("now")
    entries = own_entries(description)
    rows = [(entry, empty_row(description.name, entry, now)) for entry in entries]
    read = yield from read_rows(rows)
    return tuple(gauge for row in read for gauge in _each(row))


def all_gauges(
    ledger: Ledger, description: BudgetDescription, detail: GaugeDetail
) -> tuple[BudgetGauge, ...]:
    """Read the gauges of a budget.

    Args:
        ledger: Where it counts.
        description: What its limits are.
        detail: Which accounts are shown. "sum" and "each" read all accounts of the budget.

    Raises:
        ConfigurationError: `detail` is none of these, or the ledger cannot list its accounts.
        LedgerUnavailable: If the store does not answer.
    """
    if detail == "own":
        return do(ledger, own_gauges(description))
    if detail not in ("sum", "each"):
        raise ConfigurationError(f"detail is 'own', 'sum' or 'each', not {detail!r}.")
    admin = admin_of(ledger)
    if admin is None:
        raise ConfigurationError(
            f"detail={detail!r} needs a ledger that can list its accounts (LedgerAdmin), and this "
            f"one cannot. detail='own' needs none."
        )
    rows = inventory(admin, budget=description.name, described=(description,))
    mine = [row for row in rows if row.value is None]
    others = [row for row in rows if row.value is not None]
    gauges = [gauge for row in mine for gauge in _each(row)]
    if detail == "each":
        return (*gauges, *(gauge for row in others for gauge in _each(row)))
    return (*gauges, *_sums(others))


def _each(row: AccountRow) -> Iterator[BudgetGauge]:
    labels = _labels(row)
    if row.value is not None:
        labels = (*labels, ("value", row.value))
    state = row.state
    for dimension in DIMENSIONS:
        of = (*labels, ("dimension", _people(dimension)))
        limit: int | None = getattr(state.account.limits, dimension)
        numbers = {
            "spent": getattr(state.used, dimension),
            "held": getattr(state.held, dimension),
            "overdraft": getattr(state.overdraft, dimension),
            "limit": limit,
            "remaining": state.remaining(dimension),
        }
        for name, units in numbers.items():
            if units is not None:
                yield BudgetGauge(name, of, _number(dimension, units))
    if row.price is not None:
        yield BudgetGauge("shadow_price", labels, row.price)
    if row.gauge is not None:
        yield BudgetGauge("prompts", labels, float(row.gauge.prompts))
        yield BudgetGauge("cloud_share", labels, row.gauge.share)
        yield BudgetGauge("max_cloud_share", labels, float(row.gauge.max_share))


def _sums(rows: Iterable[AccountRow]) -> Iterator[BudgetGauge]:
    """Sums over the accounts of each scope and window: who they are for is not told."""
    groups: dict[tuple[tuple[str, str], ...], list[AccountRow]] = {}
    for row in rows:
        groups.setdefault(_labels(row), []).append(row)
    for labels, some in groups.items():
        yield BudgetGauge("accounts", labels, float(len(some)))
        for name in ("used", "held", "overdraft"):
            total = sum((getattr(row.state, name) for row in some), start=Amounts())
            for dimension in DIMENSIONS:
                of = (*labels, ("dimension", _people(dimension)))
                value = _number(dimension, getattr(total, dimension))
                yield BudgetGauge("spent" if name == "used" else name, of, value)
        for dimension in DIMENSIONS:
            shares = [share for row in some if (share := row.fraction(dimension)) is not None]
            if shares:
                of = (*labels, ("dimension", _people(dimension)))
                yield BudgetGauge("fullest", of, max(shares))


def _labels(row: AccountRow) -> tuple[tuple[str, str], ...]:
    window = "" if row.window is None else str(row.window)
    return (("budget", row.budget), ("scope", row.scope), ("window", window))


def _people(dimension: Dimension) -> str:
    return "usd" if dimension == "usd_micros" else dimension


def _number(dimension: Dimension, units: int) -> float:
    return units / 1_000_000 if dimension == "usd_micros" else float(units)


def prometheus_text(gauges: Iterable[BudgetGauge]) -> str:
    r"""Write gauges in Prometheus' text format (0.0.4).

    Example:
        >>> print(prometheus_text([BudgetGauge("held", (("budget", 'a"b'),), 0.5)]))
        # HELP hybridflow_budget_held What open reservations hold.
        # TYPE hybridflow_budget_held gauge
        hybridflow_budget_held{budget="a\"b"} 0.5
        <BLANKLINE>
    """
    by_name: dict[str, list[BudgetGauge]] = {}
    for gauge in gauges:
        by_name.setdefault(gauge.name, []).append(gauge)
    lines: list[str] = []
    for name, meaning in GAUGES.items():
        if name in by_name:
            full = f"hybridflow_budget_{name}"
            lines += [f"# HELP {full} {meaning}", f"# TYPE {full} gauge"]
            lines += [f"{full}{{{_written(one)}}} {one.value!r}" for one in by_name[name]]
    return "".join(f"{line}\n" for line in lines)


def _written(gauge: BudgetGauge) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in gauge.labels)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
