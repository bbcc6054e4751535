"""The memory ledger passes the public conformance suite."""

from __future__ import annotations

from hypothesis import settings

from langchain_hybridflow.budget import Ledger, MemoryLedger
from langchain_hybridflow.testing import LedgerConformance, ManualClock, ledger_state_machine


class TestMemoryLedgerConformance(LedgerConformance):
    def make_ledger(self, clock: ManualClock) -> Ledger:
        return MemoryLedger(clock=clock)


TestChargingMachine = ledger_state_machine(lambda clock: MemoryLedger(clock=clock)).TestCase
TestChargingMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

TestRefundingMachine = ledger_state_machine(
    lambda clock: MemoryLedger(clock=clock, on_expiry="refund"), on_expiry="refund"
).TestCase
TestRefundingMachine.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
