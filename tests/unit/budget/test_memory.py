"""What the memory ledger adds to the contract that all ledgers keep."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from langchain_hybridflow.budget import Account, AccountState, Amounts, Lease, Limits, MemoryLedger
from langchain_hybridflow.errors import ConfigurationError, LedgerError
from langchain_hybridflow.testing import ManualClock

ACCOUNT = Account("a", "budget", Limits(cloud_calls=1_000_000))
ONE = Amounts(cloud_calls=1)


def _reserve(ledger: MemoryLedger, lease_id: str, *, ttl_s: float = 60.0) -> Lease:
    lease = ledger.reserve(lease_id, ONE, accounts=[ACCOUNT], ttl_s=ttl_s)
    assert isinstance(lease, Lease)
    return lease


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


def test_settling_inside_another_call_works_when_the_collector_closes_a_stream() -> None:
    """The garbage collector may run a `finally` that settles, in the middle of any method."""
    ledger: MemoryLedger

    def abandoned() -> Iterator[int]:
        try:
            yield 1
        finally:
            ledger.commit("stream", ONE)

    stream = abandoned()
    next(stream)
    armed = False

    def clock() -> float:
        nonlocal armed
        if armed:
            armed = False
            stream.close()
        return 0.0

    ledger = MemoryLedger(clock=clock)
    _reserve(ledger, "stream")
    armed = True
    # In a thread of its own: a ledger that cannot do this hangs for ever.
    thread = threading.Thread(target=_reserve, args=(ledger, "next"), daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive(), "the ledger waits for itself"
    assert ledger.snapshot([ACCOUNT]) == (AccountState(ACCOUNT, used=ONE, held=ONE),)


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


def test_accounts_that_only_held_nothing_cost_no_memory() -> None:
    ledger = MemoryLedger(clock=ManualClock())
    ledger.snapshot([ACCOUNT])
    ledger.reserve("a", Amounts(), accounts=[ACCOUNT], ttl_s=1)
    assert not ledger._counters


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
