"""The memory ledger passes the public conformance suite of its administration."""

from __future__ import annotations

from langchain_hybridflow.budget import MemoryLedger
from langchain_hybridflow.testing import LedgerAdminConformance, ManualClock


class TestMemoryLedgerAdmin(LedgerAdminConformance):
    def make_ledger(self, clock: ManualClock) -> MemoryLedger:
        return MemoryLedger(clock=clock)
