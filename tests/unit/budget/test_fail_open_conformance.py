"""A ledger that fails open is a ledger like any other, as long as its store answers."""

from __future__ import annotations

from langchain_hybridflow.budget import FailOpenLedger, Ledger, Limits, MemoryLedger
from langchain_hybridflow.testing import LedgerConformance, ManualClock


class TestFailOpenLedgerConformance(LedgerConformance):
    def make_ledger(self, clock: ManualClock) -> Ledger:
        return FailOpenLedger(MemoryLedger(clock=clock), Limits(cloud_calls=0))
