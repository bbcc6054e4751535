"""The conformance suite catches the mistakes that ledgers are known for."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import faulty_ledgers as faulty
import pytest
from hypothesis import Phase, settings

from langchain_hybridflow import testing
from langchain_hybridflow.budget import Ledger, MemoryLedger
from langchain_hybridflow.errors import LedgerError
from langchain_hybridflow.testing import LedgerConformance, ManualClock, ledger_state_machine


def _passes(factory: Callable[[ManualClock], Any], *, examples: int = 400) -> bool:
    case = ledger_state_machine(factory).TestCase
    case.settings = settings(
        case.settings,
        max_examples=examples,
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


@pytest.mark.parametrize("handles", [1, 3])
def test_machine_passes_a_ledger_that_keeps_the_contract(handles: int) -> None:
    assert _passes(lambda clock: (MemoryLedger(clock=clock),) * handles, examples=30)


def test_machine_catches_handles_that_do_not_share_their_store() -> None:
    assert not _passes(lambda clock: (MemoryLedger(clock=clock), MemoryLedger(clock=clock)))


@pytest.mark.parametrize(
    "broken",
    [
        faulty.ChecksAfterwards,
        faulty.ChecksOnlyOneAccount,
        faulty.ChecksOnlyTheCurrentBucket,
        faulty.CountsCommitsTwice,
        faulty.CountsOnlyWhatIsUsed,
        faulty.DropsAsyncCommits,
        faulty.DropsLateCommits,
        faulty.DropsOverdraft,
        faulty.ExpiresTooLate,
        faulty.ForgetsHalf,
        faulty.ForgetsTooEarly,
        faulty.ForgetsWhatIsOpen,
        faulty.HidesOverdraft,
        faulty.HoldsReplaysAgain,
        faulty.HoldsWhereItIsGranted,
        faulty.LeaksReleases,
        faulty.LosesNotes,
        faulty.NeverCountsNotes,
        faulty.NeverExpires,
        faulty.RefundsExpired,
        faulty.ShortensLeases,
        faulty.StandsStill,
        faulty.SumsOnlyTheCurrentBucket,
        faulty.UsesIdsAgain,
        faulty.WritesNoJournal,
    ],
)
def test_machine_catches_a_ledger_that_breaks_the_contract(
    broken: Callable[[ManualClock], Ledger],
) -> None:
    assert not _passes(broken)


class _Suite(LedgerConformance):
    """The suite on any ledger, called test by test; pytest does not collect it."""

    threads = 16
    patience_s = 0.2

    def __init__(self, factory: Callable[[ManualClock], Ledger]) -> None:
        self._factory = factory

    def make_ledger(self, clock: ManualClock) -> Ledger:
        return self._factory(clock)

    def run(self, test: str) -> None:
        """Run one test with the ledger, as pytest would."""
        clock = ManualClock(start_s=1_000.0)
        ledger = self._factory(clock)
        given = {"clock": clock, "ledger": ledger, "other": ledger}
        method = getattr(self, test)
        method(**{name: given[name] for name in inspect.signature(method).parameters})


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (faulty.ReadsThenWrites, "test_limit_holds_exactly_when_threads_race"),
        (faulty.ReadsThenWrites, "test_limit_holds_exactly_when_200_coroutines_race"),
        (faulty.ReadsThenWrites, "test_window_holds_exactly_when_threads_race_in_all_buckets"),
        (faulty.SwapsUnlocked, "test_note_loses_nothing_when_threads_swap_it"),
        (faulty.HasAPlainLock, "test_lease_can_be_settled_in_the_middle_of_another_call"),
        (faulty.LeaksWhenCancelled, "test_reserve_leaves_nothing_held_when_it_is_cancelled"),
        (faulty.FreesTooMuchWhenCancelled, "test_open_lease_stays_when_its_replay_is_cancelled"),
        (faulty.CommitsInTwoSteps, "test_settlement_is_whole_when_it_is_cancelled_and_sent_again"),
        (faulty.ClosesForGood, "test_close_is_harmless_when_it_comes_twice"),
        (faulty.ChecksOnlyTheCurrentBucket, "test_limit_counts_the_earlier_buckets_of_a_window"),
        (faulty.SumsOnlyTheCurrentBucket, "test_snapshot_sums_over_the_window"),
        (faulty.ForgetsTooEarly, "test_counters_are_kept_when_their_time_is_not_over"),
        (faulty.ForgetsWhatIsOpen, "test_counters_are_kept_when_a_lease_is_open"),
        (faulty.ForgetsHalf, "test_counters_are_forgotten_all_at_once"),
        (faulty.LosesNotes, "test_note_stands_when_somebody_was_faster"),
        (faulty.NeverCountsNotes, "test_note_is_written_when_nobody_was_faster"),
        (faulty.WritesNoJournal, "test_journal_explains_the_counters"),
        (faulty.SeesNoDifference, "test_journal_explains_the_counters"),
        (faulty.StandsStill, "test_clock_moves_with_time"),
    ],
)
def test_suite_catches_a_ledger_that_breaks_the_contract(
    broken: Callable[[ManualClock], Ledger], test: str
) -> None:
    _Suite(lambda clock: MemoryLedger(clock=clock)).run(test)
    with pytest.raises((AssertionError, AttributeError, LedgerError)):
        _Suite(broken).run(test)


@pytest.mark.parametrize("package", ["pytest", "hypothesis"])
def test_import_of_the_fakes_needs_no_test_package(package: str) -> None:
    code = f"import sys, langchain_hybridflow.testing; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fakes_have_no_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LedgerMachine'"):
        _ = testing.LedgerMachine
