"""The SQLite ledger passes the public conformance suite."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import hypothesis
import pytest

from langchain_hybridflow.budget.rules import OnExpiry
from langchain_hybridflow.budget.stores.sqlite import SQLiteLedger
from langchain_hybridflow.testing import LedgerConformance, ManualClock, ledger_state_machine

NUMBERS = count()


class TestSQLiteLedger(LedgerConformance):
    threads, turns = 32, 4

    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path) -> None:
        self.path = tmp_path / "budget.db"

    def make_ledger(self, clock: ManualClock) -> SQLiteLedger:
        return SQLiteLedger(self.path, clock=clock)

    def another_handle(self, ledger: object, clock: ManualClock) -> SQLiteLedger:
        return SQLiteLedger(self.path, clock=clock)


@pytest.mark.parametrize("on_expiry", ["charge", "refund"])
def test_ledger_says_what_the_model_says_when_two_handles_take_turns(
    tmp_path: Path, on_expiry: OnExpiry
) -> None:
    def two_handles(clock: ManualClock) -> list[SQLiteLedger]:
        path = tmp_path / f"{next(NUMBERS)}.db"
        return [SQLiteLedger(path, on_expiry=on_expiry, clock=clock) for _ in range(2)]

    case = ledger_state_machine(two_handles, on_expiry=on_expiry).TestCase
    case.settings = hypothesis.settings(max_examples=25, stateful_step_count=30, deadline=None)
    case().runTest()
