"""Any sequence of ledger calls, checked against a journal: a hypothesis state machine.

```python
TestMyLedgerMachine = ledger_state_machine(lambda clock: MyLedger(clock=clock)).TestCase
```

It needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from langchain_hybridflow.budget import (
    DIMENSIONS,
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    Ledger,
    Limits,
)
from langchain_hybridflow.errors import LedgerError
from langchain_hybridflow.testing.clock import ManualClock
from langchain_hybridflow.testing.ledger import assert_within_limits

__all__ = ["ledger_state_machine"]

_LIMITED = Account("team", "team", Limits(usd="0.001", cloud_tokens=1_000, cloud_calls=10))
_SMALLER = Account("run", "run", Limits(cloud_calls=4))
_UNLIMITED = Account("everything", "everything", Limits())


@dataclass(slots=True)
class _Entry:
    """A line of the journal that the state machine keeps beside the ledger."""

    amounts: Amounts
    accounts: tuple[Account, ...]
    expires_at: float
    state: Literal["open", "committed", "released", "expired"] = "open"
    booked: Amounts = NOTHING
    overdraft: Amounts = NOTHING
    actual: Amounts | None = None


_AMOUNTS = st.builds(
    Amounts,
    usd_micros=st.integers(0, 400),
    cloud_tokens=st.integers(0, 400),
    cloud_calls=st.integers(0, 3),
)
_ACCOUNTS = st.permutations([_LIMITED, _SMALLER, _UNLIMITED]).flatmap(
    lambda order: st.integers(1, 3).map(lambda count: tuple(order[:count]))
)


class _LedgerMachine(RuleBasedStateMachine):
    """Any sequence of calls: the ledger's counters equal a journal kept beside it."""

    factory: Callable[[ManualClock], Ledger]
    on_expiry: Literal["charge", "refund"]

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(start_s=5.0)
        self.ledger = type(self).factory(self.clock)
        self.journal: dict[str, _Entry] = {}

    @rule(amounts=_AMOUNTS, accounts=_ACCOUNTS, ttl_s=st.integers(1, 30))
    def reserve(self, amounts: Amounts, accounts: tuple[Account, ...], ttl_s: int) -> None:
        lease_id = f"lease-{len(self.journal)}"
        states = [self._expected(account) for account in accounts]
        fits = all(
            asked == 0 or left is None or asked <= left
            for state in states
            for asked, left in zip(amounts, map(state.remaining, DIMENSIONS), strict=True)
        )
        answer = self.ledger.reserve(lease_id, amounts, accounts=accounts, ttl_s=ttl_s)
        assert isinstance(answer, Lease) == fits, f"{answer} with {states}"
        if isinstance(answer, Lease):
            self.journal[lease_id] = _Entry(amounts, accounts, self.clock() + ttl_s)

    @precondition(lambda self: self.journal)
    @rule(data=st.data(), amounts=_AMOUNTS)
    def reserve_again(self, data: st.DataObject, amounts: Amounts) -> None:
        lease_id, entry = self._draw(data)
        if entry.state == "open" and amounts == entry.amounts:
            assert isinstance(self._reserve_again(lease_id, amounts), Lease)
        else:
            _assert_refused(lambda: self._reserve_again(lease_id, amounts))

    @precondition(lambda self: self.journal)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        lease_id, entry = self._draw(data)
        if entry.state == "open":
            answer = self._reserve_again(lease_id, entry.amounts)
            assert isinstance(answer, Lease)
            assert answer.amounts == entry.amounts

    @precondition(lambda self: self.journal)
    @rule(data=st.data(), actual=_AMOUNTS)
    def commit(self, data: st.DataObject, actual: Amounts) -> None:
        lease_id, entry = self._draw(data)
        if entry.actual is not None and entry.actual != actual:
            _assert_refused(lambda: self.ledger.commit(lease_id, actual))
            return
        assert self.ledger.commit(lease_id, actual) == (entry.state == "open")
        if entry.state == "open":
            entry.state, entry.booked = "committed", actual
            entry.overdraft = actual.excess_over(entry.amounts)
        elif entry.actual is None:
            uncovered = actual.excess_over(entry.booked)
            entry.booked += uncovered
            entry.overdraft += uncovered
        entry.actual = actual

    @precondition(lambda self: self.journal)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease_id, entry = self._draw(data)
        assert self.ledger.release(lease_id) == (entry.state == "open")
        if entry.state == "open":
            entry.state = "released"

    @precondition(lambda self: self.journal)
    @rule(data=st.data(), ttl_s=st.integers(1, 60))
    def extend(self, data: st.DataObject, ttl_s: int) -> None:
        lease_id, entry = self._draw(data)
        if entry.state == "open":
            entry.expires_at = max(entry.expires_at, self.clock() + ttl_s)
            assert self.ledger.extend(lease_id, ttl_s).expires_at == entry.expires_at
        else:
            _assert_refused(lambda: self.ledger.extend(lease_id, ttl_s))

    @rule(seconds=st.integers(0, 20), then=st.sampled_from(["expire", "nothing"]))
    def pass_time(self, seconds: int, then: str) -> None:
        self.clock.advance(seconds)
        over = {
            lease_id: entry
            for lease_id, entry in self.journal.items()
            if entry.state == "open" and entry.expires_at <= self.clock()
        }
        for entry in over.values():
            entry.state = "expired"
            entry.booked = entry.amounts if self.on_expiry == "charge" else NOTHING
        if then == "expire":
            assert {lease.id for lease in self.ledger.expire()} == set(over)

    @invariant()
    def counters_equal_the_journal(self) -> None:
        accounts = (_LIMITED, _SMALLER, _UNLIMITED)
        states = self.ledger.snapshot(accounts)
        assert states == tuple(self._expected(account) for account in accounts)
        assert_within_limits(states)

    def teardown(self) -> None:
        """When all leases have ended, nothing is held."""
        for lease_id in self.journal:
            self.ledger.release(lease_id)
        states = self.ledger.snapshot((_LIMITED, _SMALLER, _UNLIMITED))
        assert [state.held for state in states] == [NOTHING] * 3

    def _draw(self, data: st.DataObject) -> tuple[str, _Entry]:
        lease_id = data.draw(st.sampled_from(sorted(self.journal)))
        return lease_id, self.journal[lease_id]

    def _reserve_again(self, lease_id: str, amounts: Amounts) -> Lease | Denial:
        accounts = self.journal[lease_id].accounts
        return self.ledger.reserve(lease_id, amounts, accounts=accounts, ttl_s=10)

    def _expected(self, account: Account) -> AccountState:
        mine = [entry for entry in self.journal.values() if account in entry.accounts]
        return AccountState(
            account,
            used=sum((entry.booked for entry in mine), start=NOTHING),
            held=sum((entry.amounts for entry in mine if entry.state == "open"), start=NOTHING),
            overdraft=sum((entry.overdraft for entry in mine), start=NOTHING),
        )


def _assert_refused(call: Callable[[], object]) -> None:
    try:
        answer = call()
    except LedgerError:
        return
    raise AssertionError(f"the ledger answered {answer!r} instead of raising LedgerError")


def ledger_state_machine(
    factory: Callable[[ManualClock], Ledger],
    *,
    on_expiry: Literal["charge", "refund"] = "charge",
) -> Any:
    """Build a hypothesis state machine that drives a ledger and a journal side by side.

    Args:
        factory: Builds an empty ledger that tells time by the clock it gets.
        on_expiry: What the ledger does with expired leases.

    Returns:
        A `RuleBasedStateMachine` class; its `.TestCase` is what pytest collects.

    Example:
        >>> from langchain_hybridflow.budget import MemoryLedger
        >>> machine = ledger_state_machine(lambda clock: MemoryLedger(clock=clock))
        >>> machine.TestCase().run().wasSuccessful()
        True
    """
    return type(
        "LedgerMachine",
        (_LedgerMachine,),
        {"factory": staticmethod(factory), "on_expiry": on_expiry},
    )
