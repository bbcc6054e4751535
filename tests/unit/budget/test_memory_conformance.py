"""The memory ledger passes the public conformance suite."""

from __future__ import annotations

from typing import Any, Literal

from hypothesis import settings

from langchain_hybridflow.budget import Ledger, MemoryLedger
from langchain_hybridflow.testing import LedgerConformance, ManualClock, ledger_state_machine


class TestMemoryLedgerConformance(LedgerConformance):
    def make_ledger(self, clock: ManualClock) -> Ledger:
        return MemoryLedger(clock=clock)


def _machine(on_expiry: Literal["charge", "refund"], *, examples: int) -> Any:
    case = ledger_state_machine(
        lambda clock: MemoryLedger(clock=clock, on_expiry=on_expiry), on_expiry=on_expiry
    ).TestCase
    case.settings = settings(case.settings, max_examples=examples, stateful_step_count=40)
    return case


TestChargingMachine = _machine("charge", examples=60)
TestRefundingMachine = _machine("refund", examples=30)
