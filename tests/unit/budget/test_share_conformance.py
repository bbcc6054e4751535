"""Ledgers that need no server pass the public conformance suite of refills."""

from __future__ import annotations

from pathlib import Path

import pytest

from langchain_hybridflow.budget import FailOpenLedger, Limits, MemoryLedger
from langchain_hybridflow.budget.stores.sqlite import SQLiteLedger
from langchain_hybridflow.testing import LedgerShareConformance, ManualClock


class TestMemoryLedgerShares(LedgerShareConformance):
    def make_ledger(self, clock: ManualClock) -> MemoryLedger:
        return MemoryLedger(clock=clock)


class TestSQLiteLedgerShares(LedgerShareConformance):
    threads = 8

    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "budget.db"

    def make_ledger(self, clock: ManualClock) -> SQLiteLedger:
        return SQLiteLedger(self.path, clock=clock)

    def another_handle(self, ledger: object, clock: ManualClock) -> SQLiteLedger:
        return SQLiteLedger(self.path, clock=clock)


class TestFailOpenLedgerShares(LedgerShareConformance):
    def make_ledger(self, clock: ManualClock) -> FailOpenLedger:
        return FailOpenLedger(MemoryLedger(clock=clock), Limits(cloud_calls=0))
