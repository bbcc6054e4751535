"""The SQLite ledger passes the public conformance suite of its administration."""

from __future__ import annotations

from pathlib import Path

import pytest

from langchain_hybridflow.budget.stores.sqlite import SQLiteLedger
from langchain_hybridflow.testing import LedgerAdminConformance, ManualClock


class TestSQLiteLedgerAdmin(LedgerAdminConformance):
    turns = 20

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "ledger.db"

    def make_ledger(self, clock: ManualClock) -> SQLiteLedger:
        return SQLiteLedger(self.path, clock=clock)
