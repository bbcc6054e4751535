"""The conformance suite catches the mistakes that ledgers are known for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest
from hypothesis import Phase, settings

from langchain_hybridflow import testing
from langchain_hybridflow.budget import (
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    Ledger,
    MemoryLedger,
)
from langchain_hybridflow.errors import LedgerError
from langchain_hybridflow.testing import ManualClock, ledger_state_machine


class ChecksAfterwards(MemoryLedger):
    """Grants whatever is asked, as a counter that is read before and written after a call does."""

    def _first_denial(self, amounts: Amounts, accounts: object) -> Denial | None:
        return None


class ChecksOnlyOneAccount(MemoryLedger):
    """Forgets the parent scopes."""

    def _first_denial(self, amounts: Amounts, accounts: Sequence[Account]) -> Denial | None:  # type: ignore[override]
        return super()._first_denial(amounts, accounts[:1])


class LeaksReleases(MemoryLedger):
    """Keeps the reservation of a call that failed."""

    def release(self, lease_id: str) -> bool:
        return lease_id in self._open


class CountsCommitsTwice(MemoryLedger):
    """Books a repeated commit again."""

    def _commit_late(self, lease_id: str, actual: Amounts) -> None:
        self._add("used", self._settled[lease_id].accounts, actual)


class DropsOverdraft(MemoryLedger):
    """Books no more than was reserved."""

    def commit(self, lease_id: str, actual: Amounts) -> bool:
        lease = self._open.get(lease_id)
        if lease is not None:
            covered = (min(pair) for pair in zip(actual, lease.amounts, strict=True))
            actual = Amounts(*covered)
        return super().commit(lease_id, actual)


class RefundsExpired(MemoryLedger):
    """Takes for granted that a call whose worker died was never made."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock, on_expiry="refund")


class NeverExpires(MemoryLedger):
    """Leaks what a dead worker held."""

    def _settle_expired(self, now: float) -> tuple[Lease, ...]:
        return ()


class HidesOverdraft(MemoryLedger):
    """Books overdraft without saying so."""

    def snapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        return tuple(
            AccountState(state.account, state.used, state.held, NOTHING)
            for state in super().snapshot(accounts)
        )


def _passes(factory: Callable[[ManualClock], Ledger]) -> bool:
    case = ledger_state_machine(factory).TestCase
    case.settings = settings(
        max_examples=100,
        stateful_step_count=40,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # whether it fails matters here, not the shortest way to it
        report_multiple_bugs=False,
    )
    try:
        case("runTest").runTest()
    except (AssertionError, LedgerError):
        return False
    return True


def test_machine_passes_a_ledger_that_keeps_the_contract() -> None:
    assert _passes(lambda clock: MemoryLedger(clock=clock))


@pytest.mark.parametrize(
    "broken",
    [
        ChecksAfterwards,
        ChecksOnlyOneAccount,
        LeaksReleases,
        CountsCommitsTwice,
        DropsOverdraft,
        RefundsExpired,
        NeverExpires,
        HidesOverdraft,
    ],
)
def test_machine_catches_a_ledger_that_breaks_the_contract(
    broken: Callable[[ManualClock], Ledger],
) -> None:
    assert not _passes(broken)


@pytest.mark.parametrize("package", ["pytest", "hypothesis"])
def test_import_of_the_fakes_needs_no_test_package(package: str) -> None:
    code = f"import sys, langchain_hybridflow.testing; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fakes_have_no_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LedgerMachine'"):
        _ = testing.LedgerMachine
