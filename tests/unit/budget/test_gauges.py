"""A budget as numbers for monitoring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from langchain_hybridflow.budget import (
    Amounts,
    AsyncFromSync,
    Budget,
    BudgetGauge,
    FailOpenLedger,
    Limits,
    MemoryLedger,
    Pacing,
    Scope,
)
from langchain_hybridflow.budget.gauges import GAUGES, prometheus_text
from langchain_hybridflow.errors import ConfigurationError


def used_by(*users: str, **options: Any) -> Budget:
    scopes = [Scope("user", Limits(usd=1), window="day"), Scope("global", Limits(cloud_tokens=99))]
    budget = Budget(limit_usd=5, window="day", scopes=scopes, name="team", **options)
    for user in users:
        values = budget.scope_values({"configurable": {"user_id": user}})
        run = budget.start_run(scope_values=values)
        run.snapshot()
        lease = run.reserve("a", Amounts(usd_micros=250_000, cloud_tokens=10, cloud_calls=1))
        run.commit(lease, Amounts(usd_micros=500_000, cloud_tokens=4, cloud_calls=1))
    return budget


def value(gauges: tuple[BudgetGauge, ...], name: str, **labels: str) -> float:
    (found,) = [
        gauge.value
        for gauge in gauges
        if gauge.name == name and labels.items() <= dict(gauge.labels).items()
    ]
    return found


def test_own_gauges_are_those_of_accounts_that_are_nobodys() -> None:
    gauges = used_by("ada", "bob").gauges()
    own = {"scope": "budget", "window": "day", "dimension": "usd"}
    assert [value(gauges, name, **own) for name in ("spent", "held", "limit", "remaining")] == [
        1.0,
        0.0,
        5.0,
        4.0,
    ]
    assert value(gauges, "overdraft", **own) == 0.5
    assert value(gauges, "remaining", scope="global", dimension="cloud_tokens") == 91.0
    assert {dict(gauge.labels)["scope"] for gauge in gauges} == {"budget", "global"}


def test_limit_that_is_none_has_no_gauge() -> None:
    gauges = Budget(max_cloud_calls=3).gauges()
    limited = {dict(gauge.labels)["dimension"] for gauge in gauges if gauge.name == "limit"}
    assert limited == {"cloud_calls"}


def test_sums_name_nobody() -> None:
    gauges = used_by("ada", "bob").gauges("sum")
    users = {"scope": "user", "window": "day"}
    assert value(gauges, "accounts", **users) == 2.0
    assert value(gauges, "spent", **users, dimension="usd") == 1.0
    assert value(gauges, "fullest", **users, dimension="usd") == 0.5
    assert all("value" not in dict(gauge.labels) for gauge in gauges)


def test_each_account_has_its_own_when_it_is_asked_for() -> None:
    gauges = used_by("ada", "bob").gauges("each")
    assert value(gauges, "spent", scope="user", value="ada", dimension="usd") == 0.5
    assert value(gauges, "remaining", scope="user", value="bob", dimension="usd") == 0.5


def test_price_has_a_gauge_when_the_budget_is_paced() -> None:
    gauges = used_by("ada", pacing=Pacing(expected_calls=2)).gauges()
    assert value(gauges, "shadow_price", scope="budget") >= 0


@pytest.mark.parametrize("detail", ["all", "", None])
def test_detail_that_is_none_is_refused(detail: Any) -> None:
    with pytest.raises(ConfigurationError, match="detail"):
        Budget().gauges(detail)


class Plain(AsyncFromSync):
    """A ledger without administration."""

    def __init__(self) -> None:
        self._inner = MemoryLedger()

    def __getattr__(self, name: str) -> Any:
        if name in {"list_keys", "open_leases", "reset"}:
            raise AttributeError(name)
        return getattr(self._inner, name)


def test_own_gauges_need_no_administration() -> None:
    budget = Budget(max_cloud_calls=3, ledger=Plain())
    assert value(budget.gauges(), "limit", dimension="cloud_calls") == 3.0
    with pytest.raises(ConfigurationError, match="LedgerAdmin"):
        budget.gauges("sum")


def test_text_is_what_prometheus_reads(require: Callable[[str], None]) -> None:
    require("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families

    text = used_by('a"d\\a', "bob", pacing=Pacing()).prometheus("each")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) <= {f"hybridflow_budget_{name}" for name in GAUGES}
    assert {family.type for family in families.values()} == {"gauge"}
    spent = families["hybridflow_budget_spent"].samples
    assert {sample.labels.get("value") for sample in spent} == {None, 'a"d\\a', "bob"}
    assert sum(sample.value for sample in spent if sample.labels["dimension"] == "usd") == 3.0


def test_sums_are_those_of_the_store_behind_a_ledger_that_fails_open() -> None:
    ledger = FailOpenLedger(MemoryLedger(), Limits(usd=1))
    gauges = used_by("ada", ledger=ledger).gauges("sum")
    assert value(gauges, "accounts", scope="user") == 1.0


def test_text_of_nothing_is_empty() -> None:
    assert prometheus_text([]) == ""
