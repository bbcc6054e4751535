"""Any sequence of ledger calls, checked against a plain model: a hypothesis state machine.

```python
TestMyLedgerMachine = ledger_state_machine(lambda clock: MyLedger(clock=clock)).TestCase
```

It needs hypothesis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any, Literal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from langchain_hybridflow.budget import (
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Lease,
    Ledger,
    Limits,
    Note,
    Refill,
    RefillableLedger,
)
from langchain_hybridflow.errors import LedgerError
from langchain_hybridflow.testing._ledger_kit import (
    LIMITED,
    SMALLER,
    UNLIMITED,
    assert_within_limits,
)
from langchain_hybridflow.testing._ledger_model import Entry, LedgerModel
from langchain_hybridflow.testing.clock import ManualClock

__all__ = ["ledger_state_machine"]

_BUCKET_S, _BUCKETS = 10, 4
_SHORT = Account("short", "short", Limits(cloud_tokens=600, cloud_calls=5), keep_s=12.0)
_NOTE_KEEP_S: dict[str, float | None] = {"team": None, "short": 15.0}


def _rolling(now: float) -> Account:
    """A rolling window, as it stands now; its buckets are kept for longer than it counts them."""
    bucket = int(now // _BUCKET_S)
    return Account(
        f"rolling/{bucket}",
        "window",
        Limits(usd="0.0006", cloud_calls=4),
        earlier=tuple(f"rolling/{bucket - back}" for back in range(1, _BUCKETS)),
        keep_s=_BUCKET_S * (_BUCKETS + 0.5),
    )


_AMOUNTS = st.builds(
    Amounts,
    usd_micros=st.integers(0, 400),
    cloud_tokens=st.integers(0, 400),
    cloud_calls=st.integers(0, 3),
)
# These add up with the steps of `pass_time`, so that leases are met at the very end of their time.
_TTLS_S = st.sampled_from([3, 10, 17, 30])
# `None` stands for the rolling window, whose account depends on the time.
_ACCOUNTS = st.permutations([LIMITED, SMALLER, UNLIMITED, _SHORT, None]).flatmap(
    lambda order: st.integers(1, 4).map(lambda count: tuple(order[:count]))
)


class _LedgerMachine(RuleBasedStateMachine):
    """Any sequence of calls: the ledger says what the model says.

    Each call goes through the next handle, and through the sync or the async face in turn.
    """

    factory: Callable[[ManualClock], Ledger | Sequence[Ledger]]
    on_expiry: Literal["charge", "refund"]

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(start_s=1_000.0)
        made = type(self).factory(self.clock)
        self.handles = tuple(made) if isinstance(made, Sequence) else (made,)
        self.calls = 0
        self.prompts = 0
        self.runner = asyncio.Runner()
        self.model = LedgerModel(self.on_expiry)
        self.now: float = self.call("now")

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        face, number = divmod(self.calls, len(self.handles))
        handle = self.handles[number]
        if face % 2:
            return self.runner.run(getattr(handle, f"a{method}")(*args, **kwargs))
        return getattr(handle, method)(*args, **kwargs)

    @rule(amounts=_AMOUNTS, ttl_s=_TTLS_S)
    def reserve_in_the_window(self, amounts: Amounts, ttl_s: int) -> None:
        self._reserve(amounts, (_rolling(self.now),), ttl_s)

    @rule(amounts=_AMOUNTS, places=_ACCOUNTS, ttl_s=_TTLS_S)
    def reserve(self, amounts: Amounts, places: tuple[Account | None, ...], ttl_s: int) -> None:
        self._reserve(amounts, tuple(place or _rolling(self.now) for place in places), ttl_s)

    def _reserve(self, amounts: Amounts, accounts: tuple[Account, ...], ttl_s: int) -> None:
        lease_id = f"lease-{len(self.model.entries)}"
        in_doubt, fits = self.model.forgettable(self.now), self.model.fits(amounts, accounts)
        answer = self.call("reserve", lease_id, amounts, accounts=accounts, ttl_s=ttl_s)
        self._see_what_is_forgotten(in_doubt)
        granted = isinstance(answer, Lease)
        assert granted in {fits, self.model.fits(amounts, accounts)}, f"{answer} for {amounts}"
        if granted:
            assert answer == Lease(lease_id, amounts, accounts, answer.expires_at)
            _assert_close(answer.expires_at, self.now + ttl_s)
            entry = Entry(amounts, accounts, self.now + ttl_s)
            self.model.open(lease_id, entry, self.now)

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data(), amounts=_AMOUNTS)
    def reserve_something_else(self, data: st.DataObject, amounts: Amounts) -> None:
        lease_id, entry = self._draw(data)
        if entry.state == "open" and amounts == entry.amounts:
            return
        self._assert_refused("reserve", lease_id, amounts, accounts=entry.accounts, ttl_s=10)

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        lease_id, entry = self._draw(data)
        request = {"accounts": entry.accounts, "ttl_s": 10}
        if entry.state != "open":
            self._assert_refused("reserve", lease_id, entry.amounts, **request)
            return
        answer = self.call("reserve", lease_id, entry.amounts, **request)
        assert isinstance(answer, Lease)
        assert answer.amounts == entry.amounts
        _assert_close(answer.expires_at, entry.expires_at)

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data(), actual=_AMOUNTS)
    def commit(self, data: st.DataObject, actual: Amounts) -> None:
        lease_id, entry = self._draw(data)
        if entry.actual is not None and entry.actual != actual:
            self._assert_refused("commit", lease_id, actual)
            return
        in_doubt = set(self.model.forgettable(self.now)) & set(entry.keys)
        assert self.call("commit", lease_id, actual) == (entry.state == "open")
        if entry.state == "open":
            entry.actual = actual
            self.model.settle(entry, "committed", self.now, actual)
        elif entry.actual is None:
            uncovered = self.model.commit_late(entry, actual, self.now)
            self._see_what_is_forgotten(in_doubt, but=uncovered)

    @precondition(lambda self: any(entry.actual for entry in self.model.entries.values()))
    @rule(data=st.data())
    def commit_again(self, data: st.DataObject) -> None:
        committed = [key for key, entry in self.model.entries.items() if entry.actual]
        lease_id = data.draw(st.sampled_from(committed))
        assert self.call("commit", lease_id, self.model.entries[lease_id].actual) is False

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease_id, entry = self._draw(data)
        assert self.call("release", lease_id) == (entry.state == "open")
        if entry.state == "open":
            self.model.settle(entry, "released", self.now)

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data(), ttl_s=st.sampled_from([1, 3, 10, 40]))
    def extend(self, data: st.DataObject, ttl_s: int) -> None:
        lease_id, entry = self._draw(data)
        if entry.state == "open":
            entry.expires_at = max(entry.expires_at, self.now + ttl_s)
            _assert_close(self.call("extend", lease_id, ttl_s).expires_at, entry.expires_at)
        else:
            self._assert_refused("extend", lease_id, ttl_s)

    @rule(
        seconds=st.sampled_from([0, 1, 3, 7, 10, 20]), then=st.sampled_from(["expire", "nothing"])
    )
    def pass_time(self, seconds: int, then: str) -> None:
        self.clock.advance(seconds)
        self.now += seconds
        over = self.model.pass_time(self.now)
        if then == "expire":
            assert {lease.id for lease in self.call("expire")} == over

    @rule(key=st.sampled_from(sorted(_NOTE_KEEP_S)), ahead=st.integers(-1, 1))
    def swap_note(self, key: str, ahead: int) -> None:
        standing = self.model.possible_notes(key, self.now)
        expected = max(0, max(note.version for note in standing) + ahead)
        text, keep_s = f"{key} at call {self.calls}", _NOTE_KEEP_S[key]
        written = Note(expected + 1, text)
        note = self.call("swap_note", key, expected_version=expected, text=text, keep_s=keep_s)
        assert note in {written if each.version == expected else each for each in standing}
        if note == written:
            self.model.notes[key] = (note, self.now, keep_s)
        elif not note.version:
            self.model.notes.pop(key, None)

    @precondition(lambda self: isinstance(self.handles[0], RefillableLedger))
    @rule(part=st.sampled_from([0, 1, 300_000, 999_999, 1_000_000]))
    def refill(self, part: int) -> None:
        self.prompts += 1
        refills = [Refill(SMALLER.key, part)]
        assert self.call("refill", f"prompt-{self.prompts}", refills) is True
        self.model.refill(SMALLER.key, Fraction(part, 1_000_000), self.now)
        assert self.call("refill", f"prompt-{self.prompts}", refills) is False

    @invariant()
    def ledger_says_what_the_model_says(self) -> None:
        _assert_close(self.call("now"), self.now)
        self._see_what_is_forgotten(self.model.forgettable(self.now))
        accounts = (LIMITED, SMALLER, UNLIMITED, _SHORT, _rolling(self.now))
        single = tuple(Account(key, "key") for key in self.model.keys)
        states: tuple[AccountState, ...] = self.call("snapshot", accounts + single)
        self._see_which_notes_are_forgotten(states)
        assert states == tuple(self.model.state(account) for account in accounts + single)
        assert_within_limits(states)
        for state in states:
            _assert_close(state.at, self.now)

    @invariant()
    def journal_explains_the_counters(self) -> None:
        assert self.call("reconcile").differences == ()

    def teardown(self) -> None:
        """When all leases have ended nothing is held, and what is not used is left."""
        try:
            for lease_id, entry in self.model.entries.items():
                if entry.state == "open":
                    assert self.call("release", lease_id)
                    self.model.settle(entry, "released", self.now)
            for state in self.call("snapshot", (LIMITED, SMALLER, UNLIMITED, _rolling(self.now))):
                assert state.held == NOTHING
                assert state == self.model.state(state.account)
            assert self.call("reconcile").differences == ()
        finally:
            for handle in self.handles:
                self.runner.run(handle.aclose())
                handle.close()
            self.runner.close()

    def _draw(self, data: st.DataObject) -> tuple[str, Entry]:
        lease_id = data.draw(st.sampled_from(sorted(self.model.entries)))
        return lease_id, self.model.entries[lease_id]

    def _see_what_is_forgotten(self, keys: Iterable[str], *, but: Amounts = NOTHING) -> None:
        """A ledger may forget, or not: take over which, for keys that it may have forgotten."""
        accounts = tuple(Account(key, "key") for key in keys)
        for state in self.call("snapshot", accounts) if accounts else ():
            if (state.used, state.overdraft) == (but, but):
                self.model.forget(state.account.key, but)

    def _see_which_notes_are_forgotten(self, states: Iterable[AccountState]) -> None:
        for state in states:
            key = state.account.key
            if state.note is None and Note() in self.model.possible_notes(key, self.now):
                self.model.notes.pop(key, None)

    def _assert_refused(self, method: str, *args: Any, **kwargs: Any) -> None:
        try:
            answer = self.call(method, *args, **kwargs)
        except LedgerError:
            return
        raise AssertionError(f"{method} answered {answer!r} instead of raising LedgerError")


def _assert_close(time_s: float, expected_s: float) -> None:
    """Stores keep times to the millisecond at least."""
    assert abs(time_s - expected_s) <= 0.001, f"{time_s} is not {expected_s}"


def ledger_state_machine(
    factory: Callable[[ManualClock], Ledger | Sequence[Ledger]],
    *,
    on_expiry: Literal["charge", "refund"] = "charge",
) -> Any:
    """Build a hypothesis state machine that drives a ledger and a model side by side.

    After every call, the counters equal the model, what was admitted is within the limits, and
    `reconcile` finds nothing.

    Args:
        factory: Builds an empty store that tells time by the clock it gets, and returns a ledger
            on it, or several: handles to the one store, which take turns. They are closed in the
            end. An example is one store, so this is called some hundred times.
        on_expiry: What the ledger does with expired leases.

    Returns:
        A `RuleBasedStateMachine` class; its `.TestCase` is what pytest collects. The settings of
        that allow for a slow store; more examples are had with `settings(case.settings, ...)`.

    Example:
        >>> from hypothesis import settings
        >>> from langchain_hybridflow.budget import MemoryLedger
        >>> case = ledger_state_machine(lambda clock: MemoryLedger(clock=clock)).TestCase
        >>> case.settings = settings(case.settings, max_examples=5)
        >>> case().run().wasSuccessful()
        True
    """
    machine: Any = type(
        "LedgerMachine",
        (_LedgerMachine,),
        {"factory": staticmethod(factory), "on_expiry": on_expiry},
    )
    machine.TestCase.settings = settings(
        deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
    )
    return machine
