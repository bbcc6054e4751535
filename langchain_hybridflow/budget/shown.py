"""The faces of a budget for people, dashboards and monitoring."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from langchain_hybridflow.budget.about import BudgetDescription, LimitDescription
from langchain_hybridflow.budget.accounts import AccountBook, BookEntry
from langchain_hybridflow.budget.allowance import plain_amounts
from langchain_hybridflow.budget.fail_open import FailOpenLedger
from langchain_hybridflow.budget.gauges import (
    BudgetGauge,
    GaugeDetail,
    all_gauges,
    prometheus_text,
)
from langchain_hybridflow.budget.holds import accounts_now
from langchain_hybridflow.budget.ledger import Ledger
from langchain_hybridflow.budget.overview import overview
from langchain_hybridflow.budget.scopes import Scope, ScopeValues
from langchain_hybridflow.budget.share import ShareCap
from langchain_hybridflow.budget.twins import Ask, Script, ado, do
from langchain_hybridflow.budget.types import AccountState, Limits
from langchain_hybridflow.budget.windows import Window

__all__ = ["ShownBudget"]


class ShownBudget(ABC):
    """What a `Budget` says of itself; it changes nothing."""

    name: str
    ledger: Ledger
    limits: Limits
    share: ShareCap | None
    window: Window | None
    scopes: tuple[Scope, ...]
    per_run: Limits
    on_exhausted: Any
    _entry: BookEntry
    _buckets: tuple[BookEntry, ...]
    _allowed: BookEntry

    @abstractmethod
    def _entries(self, scope_values: ScopeValues | None) -> tuple[BookEntry, ...]:
        """Say what a call is held in besides the budget's own account."""

    @property
    def description(self) -> BudgetDescription:
        """All limits, as they stand in the ledger for `hybridflow budget show`."""
        scopes = [
            LimitDescription(one.name, one.limits, one.window, one.share) for one in self.scopes
        ]
        if self.per_run:
            scopes.append(LimitDescription("run", self.per_run))
        own = LimitDescription("budget", self.limits, self.window, self.share)
        return BudgetDescription(self.name, own, tuple(scopes))

    def check(self) -> None:
        """Make sure that the store answers; nothing is spent or changed.

        Raises:
            LedgerUnavailable: It does not.
        """
        do(self.ledger, self._states((self._entry,)))

    async def acheck(self) -> None:
        """Do what `check` does, without blocking the event loop."""
        await ado(self.ledger, self._states((self._entry,)))

    def snapshot(self, scope_values: ScopeValues | None = None) -> dict[str, Any]:
        """The budget in plain JSON types, for people and dashboards; USD as floats.

        Keys `usd`, `cloud_tokens` and `cloud_calls`, each with `limit`, `spent`, `held` and
        `remaining` (`None` without a limit), and `overdraft_usd`, `name`. If there is something
        to say: `window`, with its name and when it began and ends, in epoch seconds; `scopes`, a
        list of the same for each scope; `cloud_share`, how the cap on the share of cloud calls
        stands (of a scope, in an entry of its own); `allowance`, what people have approved beyond
        the limits and was spent or is held in this window; `store`, for `on_store_failure="open"`.

        Args:
            scope_values: For whom the scopes are shown; without it they are left out.
        """
        return self._overview(do(self.ledger, self._states(self._shown(scope_values))))

    async def asnapshot(self, scope_values: ScopeValues | None = None) -> dict[str, Any]:
        """Do what `snapshot` does, without blocking the event loop."""
        return self._overview(await ado(self.ledger, self._states(self._shown(scope_values))))

    def gauges(self, detail: GaugeDetail = "own") -> tuple[BudgetGauge, ...]:
        """The budget as numbers for monitoring.

        Args:
            detail: "own": the accounts that are nobody's. "sum": sums over those of each scope,
                too. "each": every user, tenant, run, ... with its name in the label `value`; that
                can be very many labels, and personal data.

        Raises:
            ConfigurationError: `detail` is none of these, or the ledger cannot list its accounts.
            LedgerUnavailable: If the store does not answer.
        """
        return all_gauges(self.ledger, self.description, detail)

    def prometheus(self, detail: GaugeDetail = "own") -> str:
        """The gauges in Prometheus' text format, to be appended to what an exporter says.

        Example:
            >>> from langchain_hybridflow.budget import Budget
            >>> for line in Budget(max_cloud_calls=9, name="b").prometheus().splitlines():
            ...     if "limit{" in line:
            ...         print(line)
            hybridflow_budget_limit{budget="b",scope="budget",window="",dimension="cloud_calls"} 9.0
        """
        return prometheus_text(self.gauges(detail))

    def _shown(self, scope_values: ScopeValues | None) -> tuple[BookEntry, ...]:
        scopes = () if scope_values is None else self._entries(scope_values)
        return (self._entry, self._allowed, *scopes, *self._buckets)

    def _states(
        self, entries: tuple[BookEntry, ...]
    ) -> Script[tuple[tuple[BookEntry, AccountState], ...]]:
        accounts = yield from accounts_now(AccountBook(entries))
        states = yield Ask("snapshot", (accounts,))
        return tuple(zip(entries, states, strict=True))

    def _overview(self, shown: tuple[tuple[BookEntry, AccountState], ...]) -> dict[str, Any]:
        own, (_, allowed), *scopes = shown
        plain = overview(self.name, own, scopes)
        if self.on_exhausted == "ask":
            plain["allowance"] = plain_amounts(allowed.used + allowed.held)
        if isinstance(self.ledger, FailOpenLedger):
            plain["store"] = self.ledger.status()
        return plain
