"""Gauges of a budget, as OpenTelemetry collects them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from langchain_hybridflow.budget import Amounts, Budget, Limits, MemoryLedger, Scope
from langchain_hybridflow.errors import LedgerUnavailable
from langchain_hybridflow.telemetry import Telemetry


@pytest.fixture
def reader() -> Any:
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    return InMemoryMetricReader()


def telemetry(reader: Any) -> Telemetry:
    from opentelemetry.sdk.metrics import MeterProvider

    return Telemetry(meter_provider=MeterProvider([reader]))


def collected(reader: Any) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_gauges_are_those_of_the_budget_when_metrics_are_collected(reader: Any) -> None:
    scopes = [Scope("user", Limits(cloud_calls=2))]
    budget = Budget(max_cloud_calls=4, name="team", scopes=scopes)
    telemetry(reader).observe(budget)
    values = budget.scope_values({"configurable": {"user_id": "ada"}})
    budget.start_run(scope_values=values).reserve("a", Amounts(cloud_calls=1))
    found = collected(reader)
    (remaining,) = found["hybridflow.budget.remaining"]
    assert remaining.value == 3.0
    assert dict(remaining.attributes) == {
        "budget": "team",
        "scope": "budget",
        "window": "",
        "dimension": "cloud_calls",
    }
    assert {point.value for point in found["hybridflow.budget.held"]} == {0.0, 1.0}
    assert "ada" not in str(found)


def test_store_is_read_once_for_a_collection(reader: Any) -> None:
    class Counting(MemoryLedger):
        asked = 0

        def snapshot(self, accounts: Any) -> Any:
            self.asked += 1
            return super().snapshot(accounts)

    ledger = Counting()
    telemetry(reader).observe(Budget(max_cloud_calls=4, ledger=ledger))
    collected(reader)
    assert ledger.asked == 1


def test_collection_goes_on_when_the_store_does_not_answer(
    reader: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Down(MemoryLedger):
        def snapshot(self, accounts: Any) -> Any:
            raise LedgerUnavailable("memory://", "it sleeps")

    telemetry(reader).observe(Budget(max_cloud_calls=4, ledger=Down()))
    with caplog.at_level(logging.WARNING):
        assert "hybridflow.budget.spent" not in collected(reader)
    assert "A budget cannot be observed" in caplog.text
