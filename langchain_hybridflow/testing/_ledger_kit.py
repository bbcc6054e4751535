"""What the parts of the conformance suite share: hooks, accounts, and a race of threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from langchain_hybridflow.budget import (
    DIMENSIONS,
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    Ledger,
    Limits,
)
from langchain_hybridflow.testing.clock import ManualClock

__all__ = [
    "LIMITED",
    "SMALLER",
    "UNLIMITED",
    "LedgerCase",
    "assert_within_limits",
    "reserve",
    "run_threads",
    "window",
]

LIMITED = Account("team", "team", Limits(usd="0.001", cloud_tokens=1_000, cloud_calls=10))
SMALLER = Account("run", "run", Limits(cloud_calls=4))
UNLIMITED = Account("everything", "everything", Limits())


def window(number: int) -> Account:
    """A rolling window of four buckets that may hold ten calls, as it stands in one of them."""
    earlier = tuple(f"window/{number - back}" for back in (1, 2, 3))
    return Account(f"window/{number}", "window", Limits(cloud_calls=10), earlier=earlier)


class LedgerCase:
    """The hooks of `LedgerConformance`, where they are documented, and its fixtures."""

    threads: int = 64
    turns: int = 100
    ttl_s: float = 60.0
    patience_s: float = 20.0

    def make_ledger(self, clock: ManualClock) -> Ledger:
        """Build an empty ledger that charges expired leases and tells time by `clock`."""
        raise NotImplementedError

    def another_handle(self, ledger: Ledger, clock: ManualClock) -> Ledger:
        """Open the store of `ledger` a second time, as another process would."""
        return ledger

    def pass_time(self, clock: ManualClock, seconds: float) -> None:
        """Let at least so much time pass on the store's clock."""
        clock.advance(seconds)

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The clock of the ledger under test, in epoch seconds."""
        return ManualClock(start_s=1_000.0)

    @pytest.fixture
    def ledger(self, clock: ManualClock) -> Iterator[Ledger]:
        """The ledger under test."""
        ledger = self.make_ledger(clock)
        yield ledger
        ledger.close()

    @pytest.fixture
    def other(self, ledger: Ledger, clock: ManualClock) -> Iterator[Ledger]:
        """Another handle to the store of the ledger under test."""
        other = self.another_handle(ledger, clock)
        yield other
        other.close()


def reserve(
    ledger: Ledger, lease_id: str, amounts: Amounts, *accounts: Account, ttl_s: float = 600.0
) -> Lease | Denial:
    """Reserve for longer than any test takes."""
    return ledger.reserve(lease_id, amounts, accounts=accounts, ttl_s=ttl_s)


def assert_within_limits(states: Sequence[AccountState]) -> None:
    """Check that what was admitted, `used - overdraft + held`, passes no limit.

    Raises:
        AssertionError: If it does.
    """
    for state in states:
        for dimension in DIMENSIONS:
            limit = getattr(state.account.limits, dimension)
            used, held, overdraft = (
                getattr(column, dimension) for column in (state.used, state.held, state.overdraft)
            )
            assert limit is None or used - overdraft + held <= limit, f"passed: {state}"


def run_threads(count: int, work: Callable[[int], object]) -> None:
    """Run `work(0..count-1)`, all started at once, and raise what the first failed one raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(count)

    def guarded(worker: int) -> None:
        try:
            start.wait(timeout=30)
            work(worker)
        except BaseException as error:  # noqa: BLE001 - raised again by the main thread
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(n,), daemon=True) for n in range(count)]
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # as many interleavings as possible
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    finally:
        sys.setswitchinterval(interval_s)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "a thread hangs in the ledger"
