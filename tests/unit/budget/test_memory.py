"""What the memory ledger adds to the contract that all ledgers keep."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from langchain_hybridflow.budget import (
    Account,
    AccountState,
    Amounts,
    Denial,
    Difference,
    Lease,
    Limits,
    MemoryLedger,
)
from langchain_hybridflow.errors import ConfigurationError, LedgerError
from langchain_hybridflow.testing import ManualClock

ACCOUNT = Account("a", "budget", Limits(cloud_calls=1_000_000))
ONE = Amounts(cloud_calls=1)


def _reserve(ledger: MemoryLedger, lease_id: str, *, ttl_s: float = 60.0) -> Lease:
    lease = ledger.reserve(lease_id, ONE, accounts=[ACCOUNT], ttl_s=ttl_s)
    assert isinstance(lease, Lease)
    return lease


def _reserve_in(ledger: MemoryLedger, lease_id: str, account: Account) -> None:
    assert isinstance(ledger.reserve(lease_id, ONE, accounts=[account], ttl_s=60), Lease)


def test_expired_lease_is_free_when_refunding() -> None:
    clock = ManualClock()
    ledger = MemoryLedger(clock=clock, on_expiry="refund")
    _reserve(ledger, "a")
    clock.advance(60)
    assert ledger.snapshot([ACCOUNT]) == (AccountState(ACCOUNT),)


def test_late_commit_is_all_overdraft_when_refunding() -> None:
    clock = ManualClock()
    ledger = MemoryLedger(clock=clock, on_expiry="refund")
    _reserve(ledger, "a")
    clock.advance(60)
    assert ledger.commit("a", ONE) is False
    assert ledger.snapshot([ACCOUNT]) == (AccountState(ACCOUNT, used=ONE, overdraft=ONE),)


def test_settled_leases_leave_nothing_in_the_expiry_heap() -> None:
    ledger = MemoryLedger(clock=ManualClock())
    for number in range(5_000):
        _reserve(ledger, f"lease-{number}")
        ledger.commit(f"lease-{number}", ONE)
    assert len(ledger._expiries) < 100


def test_extending_over_and_over_leaves_nothing_in_the_expiry_heap() -> None:
    ledger = MemoryLedger(clock=ManualClock())
    _reserve(ledger, "a")
    for extra in range(5_000):
        ledger.extend("a", 61.0 + extra)
    assert len(ledger._expiries) < 100


def test_only_the_last_settled_leases_are_remembered() -> None:
    ledger = MemoryLedger(clock=ManualClock(), settled_memory=10)
    for number in range(50):
        _reserve(ledger, f"lease-{number}")
        ledger.commit(f"lease-{number}", ONE)
    assert ledger.commit("lease-49", ONE) is False
    with pytest.raises(LedgerError, match="forgotten"):
        ledger.commit("lease-0", ONE)
    assert ledger.snapshot([ACCOUNT])[0].used == Amounts(cloud_calls=50)


def test_accounts_that_were_only_looked_at_cost_no_memory() -> None:
    ledger = MemoryLedger(clock=ManualClock())
    ledger.snapshot([ACCOUNT])
    assert not ledger._books._counters


@pytest.mark.parametrize("end", ["commit", "release"])
def test_memory_stays_the_same_when_thousands_of_runs_have_passed(end: str) -> None:
    clock = ManualClock()
    ledger = MemoryLedger(clock=clock, settled_memory=10)
    for number in range(5_000):
        run = Account(f"run/{number}", "run", Limits(cloud_calls=1), keep_s=10.0)
        ledger.reserve(f"{number}", ONE, accounts=[ACCOUNT, run], ttl_s=5)
        ledger.commit(f"{number}", ONE) if end == "commit" else ledger.release(f"{number}")
        ledger.swap_note(f"run/{number}", expected_version=0, text="x", keep_s=10.0)
        clock.advance(1.0)
    books = ledger._books
    # Ten seconds' worth of runs, and at most some hundred lines that are not summed up yet.
    assert len(books._counters) <= 15
    assert len(books._notes) <= 15
    assert len(books._counter_ages._heap) <= 15
    assert len(books._journal._opening) + len(books._journal._lines) < 700
    used = Amounts(cloud_calls=5_000) if end == "commit" else Amounts()
    assert ledger.snapshot([ACCOUNT])[0].used == used
    assert ledger.reconcile().differences == ()


def test_crowd_of_old_accounts_is_forgotten_when_calls_go_on() -> None:
    clock = ManualClock()
    ledger = MemoryLedger(clock=clock)
    for number in range(100):
        run = Account(f"run/{number}", "run", keep_s=10.0)
        ledger.reserve(f"{number}", ONE, accounts=[run], ttl_s=60)
        ledger.release(f"{number}")
    clock.advance(10)
    for _ in range(100):
        ledger.snapshot([ACCOUNT])
    assert not ledger._books._counters


def test_account_is_kept_for_ever_when_it_no_longer_says_for_how_long() -> None:
    clock = ManualClock()
    ledger = MemoryLedger(clock=clock)
    for lease_id, keep_s in (("a", 10.0), ("b", None)):
        ledger.reserve(lease_id, ONE, accounts=[replace(ACCOUNT, keep_s=keep_s)], ttl_s=60)
        ledger.commit(lease_id, ONE)
    clock.advance(1_000)
    assert ledger.snapshot([ACCOUNT])[0].used == Amounts(cloud_calls=2)


def test_account_is_forgotten_earlier_when_it_says_a_shorter_time() -> None:
    clock = ManualClock()
    ledger = MemoryLedger(clock=clock)
    for lease_id, keep_s in (("a", 1_000.0), ("b", 10.0)):
        ledger.reserve(lease_id, ONE, accounts=[replace(ACCOUNT, keep_s=keep_s)], ttl_s=60)
        ledger.commit(lease_id, ONE)
    clock.advance(10)
    assert ledger.snapshot([ACCOUNT]) == (AccountState(ACCOUNT),)


def test_time_is_the_wall_clock_at_first_and_then_the_monotonic_one() -> None:
    clock = ManualClock(start_s=7.0)
    ledger = MemoryLedger(clock=clock, epoch_s=1_800_000_000.25)
    assert ledger.now() == 1_800_000_000.25
    clock.advance(2.5)
    assert ledger.now() == 1_800_000_002.75
    assert ledger.snapshot([ACCOUNT])[0].at == 1_800_000_002.75


def test_time_does_not_jump_when_the_wall_clock_does(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = MemoryLedger()
    before = ledger.now()
    assert before == pytest.approx(time.time(), abs=1.0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert before <= ledger.now() < before + 60.0


def _damaged(clock: ManualClock) -> MemoryLedger:
    """A ledger with an open lease, whose counters somebody has changed behind its back."""
    ledger = MemoryLedger(clock=clock)
    _reserve(ledger, "spent")
    ledger.commit("spent", Amounts(cloud_calls=2))
    _reserve(ledger, "open")
    ledger._books._counters["a"].used[2] += 5
    ledger._books._counters["a"].held[2] = 0
    return ledger


def test_reconcile_names_every_counter_that_the_journal_does_not_explain() -> None:
    result = _damaged(ManualClock()).reconcile()
    assert result.differences == (
        Difference("a", "used", "cloud_calls", counted=7, journal=2),
        Difference("a", "held", "cloud_calls", counted=0, journal=1),
    )
    assert (result.accounts_checked, result.repaired) == (1, False)


def test_reconcile_sets_the_counters_right_when_told_to() -> None:
    ledger = _damaged(ManualClock())
    assert ledger.reconcile(repair=True).repaired is True
    assert ledger.reconcile().differences == ()
    assert ledger.commit("open", ONE) is True
    used, over = Amounts(cloud_calls=3), ONE
    assert ledger.snapshot([ACCOUNT]) == (AccountState(ACCOUNT, used=used, overdraft=over),)


def test_reconcile_finds_leases_whose_counters_are_gone() -> None:
    ledger = _damaged(ManualClock())
    ledger._books._counters.clear()
    assert {difference.counted for difference in ledger.reconcile(repair=True).differences} == {0}
    ledger.release("open")
    state = ledger.snapshot([ACCOUNT])[0]
    assert (state.used, state.held) == (Amounts(cloud_calls=2), Amounts())
    assert ledger.reconcile().differences == ()


def test_reserve_is_refused_when_an_account_is_named_twice() -> None:
    with pytest.raises(LedgerError, match="twice"):
        MemoryLedger().reserve("a", ONE, accounts=[ACCOUNT, ACCOUNT], ttl_s=1)


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, float("nan"), float("inf")])
def test_lease_time_is_refused_when_it_is_no_time(ttl_s: float) -> None:
    ledger = MemoryLedger(clock=ManualClock())
    with pytest.raises(LedgerError, match="ttl_s"):
        ledger.reserve("a", ONE, accounts=[ACCOUNT], ttl_s=ttl_s)
    _reserve(ledger, "b")
    with pytest.raises(LedgerError, match="ttl_s"):
        ledger.extend("b", ttl_s)


@pytest.mark.parametrize("wrong", [{"on_expiry": "forget"}, {"settled_memory": 0}])
def test_ledger_is_refused_when_a_parameter_cannot_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        MemoryLedger(**wrong)


class _InterruptingKey(str):
    """A key that, once armed, runs something when it is hashed for the n-th time."""

    __slots__ = ("left", "run")

    left: int
    run: Callable[[], object]

    def __hash__(self) -> int:
        left = getattr(self, "left", 0)
        self.left = left - 1
        if left == 1:
            self.run()
        return super().__hash__()


@pytest.mark.parametrize("hashes", range(1, 8))
def test_limit_holds_when_the_collector_settles_a_lease_while_it_is_checked(hashes: int) -> None:
    ledger = MemoryLedger()
    earlier = _InterruptingKey("window/1")
    limits = Limits(cloud_calls=1)
    _reserve_in(ledger, "stream", Account("window/0", "window", limits))
    earlier.run = lambda: ledger.commit("stream", ONE)
    window = Account("window/2", "window", limits, earlier=(earlier, "window/0"))
    earlier.left = hashes
    assert isinstance(ledger.reserve("next", ONE, accounts=[window], ttl_s=60), Denial)
    ledger.commit("stream", ONE)
    earlier.left = hashes
    assert [state.used for state in ledger.snapshot([window, window])] == [ONE, ONE]


@pytest.mark.parametrize("hashes", range(1, 8))
def test_snapshot_is_of_one_instant_when_the_collector_settles_a_lease_meanwhile(
    hashes: int,
) -> None:
    ledger = MemoryLedger()
    key = _InterruptingKey("other")
    _reserve_in(ledger, "x", Account(key, "other"))
    _reserve(ledger, "stream")
    key.run = lambda: ledger.commit("stream", ONE)
    asked = (ACCOUNT, Account("window", "window", earlier=("a", key)), ACCOUNT)
    key.left = hashes
    first, _, last = ledger.snapshot(asked)
    assert first == last
    assert first.used + first.held == ONE


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("hashes", range(1, 12))
def test_reconcile_is_right_when_the_collector_settles_a_lease_meanwhile(
    hashes: int, repair: bool
) -> None:
    ledger = MemoryLedger()
    key = _InterruptingKey("other")
    ledger.reserve("open", ONE, accounts=[Account(key, "other")], ttl_s=60)
    _reserve(ledger, "stream")
    key.run = lambda: ledger.commit("stream", ONE)
    key.left = hashes
    assert ledger.reconcile(repair=repair).differences == ()
    key.left = 0
    ledger.commit("stream", ONE)
    assert ledger.snapshot([ACCOUNT]) == (AccountState(ACCOUNT, used=ONE),)
    assert ledger.reconcile().differences == ()
