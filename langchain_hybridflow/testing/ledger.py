"""The conformance suite of ledgers: run it on your own store.

```python
class TestMyLedger(LedgerConformance):
    def make_ledger(self, clock):
        return MyLedger(clock=clock)
```

It needs pytest. `langchain_hybridflow.testing.ledger_state_machine` is the other half.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Sequence

import pytest

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

__all__ = ["LedgerConformance", "assert_within_limits"]

_TTL_S = 60.0
_LIMITED = Account("team", "team", Limits(usd="0.001", cloud_tokens=1_000, cloud_calls=10))
_SMALLER = Account("run", "run", Limits(cloud_calls=4))
_UNLIMITED = Account("everything", "everything", Limits())


class LedgerConformance:
    """What every ledger must do, one behaviour a test; subclass it in a test module.

    Subclasses define `make_ledger`. A store with a clock of its own overrides `pass_time`, too, and
    one over a network may want fewer `turns` of its 64 racing threads.
    """

    turns: int = 100

    def make_ledger(self, clock: ManualClock) -> Ledger:
        """Build an empty ledger that charges expired leases and tells time by `clock`."""
        raise NotImplementedError

    def pass_time(self, clock: ManualClock, seconds: float) -> None:
        """Let time pass on the store's clock."""
        clock.advance(seconds)

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The clock of the ledger under test."""
        return ManualClock(start_s=1_000.0)

    @pytest.fixture
    def ledger(self, clock: ManualClock) -> Ledger:
        """The ledger under test."""
        return self.make_ledger(clock)

    def test_ledger_satisfies_the_protocol(self, ledger: Ledger) -> None:
        """It has all methods, sync and async."""
        assert isinstance(ledger, Ledger)

    def test_reserve_holds_in_every_account_when_granted(self, ledger: Ledger) -> None:
        """A grant is held in all accounts at once."""
        amounts = Amounts(usd_micros=10, cloud_tokens=20, cloud_calls=1)
        lease = _reserve(ledger, "a", amounts, _LIMITED, _SMALLER)
        assert isinstance(lease, Lease)
        assert (lease.id, lease.amounts) == ("a", amounts)
        assert [s.held for s in ledger.snapshot([_LIMITED, _SMALLER])] == [amounts, amounts]

    def test_reserve_holds_nothing_anywhere_when_one_account_denies(self, ledger: Ledger) -> None:
        """All or none."""
        denial = _reserve(ledger, "a", Amounts(cloud_calls=5), _LIMITED, _SMALLER)
        assert denial == Denial(
            "cloud_calls", requested=5, remaining=4, limit=4, scope="run", held=0
        )
        assert [s.held for s in ledger.snapshot([_LIMITED, _SMALLER])] == [NOTHING, NOTHING]

    def test_reserve_names_the_dimension_when_denied(self, ledger: Ledger) -> None:
        """A denial says which dimension had too little, how much is left and how much is held."""
        _reserve(ledger, "a", Amounts(cloud_tokens=900), _LIMITED)
        denial = _reserve(ledger, "b", Amounts(usd_micros=1, cloud_tokens=101), _LIMITED)
        assert denial == Denial(
            "cloud_tokens", requested=101, remaining=100, limit=1_000, scope="team", held=900
        )

    def test_reserve_grants_to_the_last_unit_and_not_beyond(self, ledger: Ledger) -> None:
        """The limit itself can be spent."""
        assert isinstance(_reserve(ledger, "a", Amounts(cloud_tokens=1_000), _LIMITED), Lease)
        assert isinstance(_reserve(ledger, "b", Amounts(cloud_tokens=1), _LIMITED), Denial)

    def test_reserve_grants_the_free_when_the_limit_is_used_up(self, ledger: Ledger) -> None:
        """A dimension of which nothing is asked cannot deny."""
        _reserve(ledger, "a", Amounts(cloud_calls=10), _LIMITED)
        assert isinstance(_reserve(ledger, "b", Amounts(cloud_tokens=5), _LIMITED), Lease)

    def test_reserve_replays_the_grant_when_the_id_is_open(self, ledger: Ledger) -> None:
        """A request that is sent twice counts once."""
        first = _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        assert _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED) == first
        assert ledger.snapshot([_LIMITED])[0].held == Amounts(cloud_calls=3)

    def test_reserve_raises_when_the_id_is_open_with_other_amounts(self, ledger: Ledger) -> None:
        """One id, one purchase."""
        _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        with pytest.raises(LedgerError):
            _reserve(ledger, "a", Amounts(cloud_calls=2), _LIMITED)
        assert ledger.snapshot([_LIMITED])[0].held == Amounts(cloud_calls=3)

    def test_reserve_raises_when_the_id_is_open_in_other_accounts(self, ledger: Ledger) -> None:
        """One id, one purchase, in the same accounts."""
        _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        with pytest.raises(LedgerError):
            _reserve(ledger, "a", Amounts(cloud_calls=3), _SMALLER)

    @pytest.mark.parametrize("end", ["commit", "release", "expire"])
    def test_reserve_raises_when_the_id_was_settled(
        self, ledger: Ledger, clock: ManualClock, end: str
    ) -> None:
        """An id is never used again, however its lease ended."""
        _reserve(ledger, "a", Amounts(cloud_calls=1), _LIMITED)
        if end == "commit":
            ledger.commit("a", Amounts(cloud_calls=1))
        elif end == "release":
            ledger.release("a")
        else:
            self.pass_time(clock, _TTL_S)
        with pytest.raises(LedgerError):
            _reserve(ledger, "a", Amounts(cloud_calls=1), _LIMITED)

    def test_reserve_checks_the_limits_of_the_call_when_they_changed(self, ledger: Ledger) -> None:
        """Limits travel with the call: a raised one holds from the next call on."""
        _reserve(ledger, "a", Amounts(cloud_calls=4), _SMALLER)
        raised = Account(_SMALLER.key, "run", Limits(cloud_calls=6))
        assert isinstance(_reserve(ledger, "b", Amounts(cloud_calls=1), _SMALLER), Denial)
        assert isinstance(_reserve(ledger, "c", Amounts(cloud_calls=2), raised), Lease)

    def test_commit_books_the_cost_and_frees_the_rest(self, ledger: Ledger) -> None:
        """The difference between worst case and cost can be reserved again."""
        _reserve(ledger, "a", Amounts(cloud_tokens=800), _LIMITED)
        assert ledger.commit("a", Amounts(cloud_tokens=300)) is True
        expected = AccountState(_LIMITED, used=Amounts(cloud_tokens=300))
        assert ledger.snapshot([_LIMITED]) == (expected,)
        assert isinstance(_reserve(ledger, "b", Amounts(cloud_tokens=700), _LIMITED), Lease)

    def test_commit_counts_overdraft_when_it_cost_more_than_reserved(self, ledger: Ledger) -> None:
        """What was spent is booked, also beyond the reservation and the limit."""
        _reserve(ledger, "a", Amounts(cloud_tokens=900, cloud_calls=1), _LIMITED)
        ledger.commit("a", Amounts(cloud_tokens=1_200, cloud_calls=1))
        state = ledger.snapshot([_LIMITED])[0]
        assert state.used == Amounts(cloud_tokens=1_200, cloud_calls=1)
        assert state.overdraft == Amounts(cloud_tokens=300)
        assert state.remaining("cloud_tokens") == 0

    def test_commit_changes_nothing_when_it_comes_twice(self, ledger: Ledger) -> None:
        """A lease is settled once."""
        _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        assert ledger.commit("a", Amounts(cloud_calls=2)) is True
        before = ledger.snapshot([_LIMITED])
        assert ledger.commit("a", Amounts(cloud_calls=2)) is False
        assert ledger.snapshot([_LIMITED]) == before

    def test_commit_raises_when_it_contradicts_the_first(self, ledger: Ledger) -> None:
        """The first commit stands, and the second is not lost in silence."""
        _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        ledger.commit("a", Amounts(cloud_calls=2))
        with pytest.raises(LedgerError):
            ledger.commit("a", Amounts(cloud_calls=3))
        assert ledger.snapshot([_LIMITED])[0].used == Amounts(cloud_calls=2)

    def test_commit_raises_when_the_id_is_unknown(self, ledger: Ledger) -> None:
        """A cost that belongs to no account is not dropped in silence."""
        with pytest.raises(LedgerError):
            ledger.commit("never-reserved", Amounts(cloud_calls=1))

    def test_commit_is_overdraft_when_the_lease_was_released(self, ledger: Ledger) -> None:
        """The call was made after all: its cost is booked, and nothing covered it."""
        _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        ledger.release("a")
        assert ledger.commit("a", Amounts(cloud_calls=2)) is False
        state = ledger.snapshot([_LIMITED])[0]
        assert (state.used, state.overdraft) == (Amounts(cloud_calls=2), Amounts(cloud_calls=2))

    def test_release_frees_everything(self, ledger: Ledger) -> None:
        """A call that was not made costs nothing."""
        _reserve(ledger, "a", Amounts(usd_micros=5, cloud_calls=3), _LIMITED, _SMALLER)
        assert ledger.release("a") is True
        fresh = (AccountState(_LIMITED), AccountState(_SMALLER))
        assert ledger.snapshot([_LIMITED, _SMALLER]) == fresh

    def test_release_changes_nothing_when_the_lease_was_committed(self, ledger: Ledger) -> None:
        """So it is safe in a `finally`."""
        _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        ledger.commit("a", Amounts(cloud_calls=2))
        assert ledger.release("a") is False
        assert ledger.snapshot([_LIMITED])[0].used == Amounts(cloud_calls=2)

    def test_release_changes_nothing_when_the_id_is_unknown(self, ledger: Ledger) -> None:
        """A reservation whose answer was lost can be released without knowing it."""
        assert ledger.release("never-reserved") is False

    def test_expire_charges_the_reservation_when_nobody_settled_it(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        """Nobody knows that the call was not made."""
        lease = _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        self.pass_time(clock, _TTL_S)
        assert [expired.id for expired in ledger.expire()] == ["a"]
        assert isinstance(lease, Lease)
        assert ledger.snapshot([_LIMITED])[0] == AccountState(_LIMITED, used=lease.amounts)

    def test_expire_leaves_leases_alone_when_their_time_is_not_over(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        """A lease lives for all of its time."""
        _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        self.pass_time(clock, _TTL_S - 1.0)
        assert ledger.expire() == ()
        assert ledger.snapshot([_LIMITED])[0].held == Amounts(cloud_calls=3)

    def test_expired_lease_is_charged_once_when_it_is_released_late(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        """The charge stands."""
        _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        self.pass_time(clock, _TTL_S)
        assert ledger.release("a") is False
        assert ledger.expire() == ()
        assert ledger.snapshot([_LIMITED])[0].used == Amounts(cloud_calls=3)

    def test_commit_adds_only_what_the_charge_left_open_when_it_is_late(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        """A late commit is recorded as overdraft, never dropped and never counted twice."""
        _reserve(ledger, "a", Amounts(cloud_tokens=100, cloud_calls=1), _LIMITED)
        self.pass_time(clock, _TTL_S)
        assert ledger.commit("a", Amounts(cloud_tokens=130, cloud_calls=1)) is False
        assert ledger.commit("a", Amounts(cloud_tokens=130, cloud_calls=1)) is False
        state = ledger.snapshot([_LIMITED])[0]
        assert state.used == Amounts(cloud_tokens=130, cloud_calls=1)
        assert state.overdraft == Amounts(cloud_tokens=30)

    def test_extend_keeps_the_lease_open(self, ledger: Ledger, clock: ManualClock) -> None:
        """A long call can have more time."""
        _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        self.pass_time(clock, _TTL_S - 1.0)
        ledger.extend("a", _TTL_S)
        self.pass_time(clock, _TTL_S - 1.0)
        assert ledger.commit("a", Amounts(cloud_calls=1)) is True

    def test_extend_never_shortens_a_lease(self, ledger: Ledger, clock: ManualClock) -> None:
        """A smaller time leaves the lease as it was."""
        _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        ledger.extend("a", 1.0)
        self.pass_time(clock, _TTL_S - 1.0)
        assert ledger.expire() == ()

    def test_extend_raises_when_the_lease_is_over(self, ledger: Ledger, clock: ManualClock) -> None:
        """What was charged cannot be opened again."""
        _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        self.pass_time(clock, _TTL_S)
        with pytest.raises(LedgerError):
            ledger.extend("a", _TTL_S)

    def test_snapshot_is_zero_when_the_account_is_new(self, ledger: Ledger) -> None:
        """Nobody opens accounts by hand."""
        assert ledger.snapshot([_UNLIMITED]) == (AccountState(_UNLIMITED),)

    def test_async_twins_do_what_the_sync_methods_do(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        """Same store, same rules, no matter which face is used."""

        async def use() -> tuple[AccountState, ...]:
            amounts = Amounts(cloud_calls=2)
            for lease_id in "abc":
                await ledger.areserve(lease_id, amounts, accounts=[_LIMITED], ttl_s=_TTL_S)
            await ledger.acommit("a", Amounts(cloud_calls=1))
            await ledger.arelease("b")
            await ledger.aextend("c", 2 * _TTL_S)
            self.pass_time(clock, 3 * _TTL_S)
            assert [lease.id for lease in await ledger.aexpire()] == ["c"]
            return await ledger.asnapshot([_LIMITED])

        assert asyncio.run(use()) == (AccountState(_LIMITED, used=Amounts(cloud_calls=3)),)
        assert ledger.snapshot([_LIMITED])[0].used == Amounts(cloud_calls=3)

    def test_limit_holds_exactly_when_64_threads_race(self, ledger: Ledger) -> None:
        """Every unit is granted once, none twice, none is lost."""
        account = Account("race", "race", Limits(cloud_tokens=10_000, cloud_calls=100))
        granted: list[str] = []

        def work(worker: int) -> None:
            for turn in range(4):
                lease_id = f"{worker}-{turn}"
                amounts = Amounts(cloud_tokens=100, cloud_calls=1)
                if isinstance(_reserve(ledger, lease_id, amounts, account), Lease):
                    assert_within_limits(ledger.snapshot([account]))
                    granted.append(lease_id)

        _run_threads(64, work)
        assert len(granted) == 100
        assert ledger.snapshot([account])[0].remaining("cloud_tokens") == 0

    def test_counters_balance_when_64_threads_settle_in_all_ways(self, ledger: Ledger) -> None:
        """Whatever happens in parallel at the limit, it adds up, and nothing stays held."""
        account = Account("mix", "mix", Limits(cloud_calls=3))
        spent: list[int] = []

        def work(worker: int) -> None:
            for turn in range(self.turns):
                lease_id, tokens = f"{worker}-{turn}", (worker * 7 + turn) % 100
                worst = Amounts(cloud_tokens=100, cloud_calls=1)
                if isinstance(_reserve(ledger, lease_id, worst, account), Denial):
                    continue
                assert_within_limits(ledger.snapshot([account]))
                if turn % 3 == 0:
                    ledger.release(lease_id)
                else:
                    ledger.commit(lease_id, Amounts(cloud_tokens=tokens))
                    spent.append(tokens)

        _run_threads(64, work)
        expected = AccountState(account, used=Amounts(cloud_tokens=sum(spent)))
        assert ledger.snapshot([account]) == (expected,)

    def test_lease_is_settled_once_when_32_threads_commit_it(self, ledger: Ledger) -> None:
        """Exactly one of them settles it."""
        _reserve(ledger, "a", Amounts(cloud_calls=3), _LIMITED)
        settled: list[bool] = []
        _run_threads(32, lambda _: settled.append(ledger.commit("a", Amounts(cloud_calls=2))))
        assert settled.count(True) == 1
        assert ledger.snapshot([_LIMITED])[0].used == Amounts(cloud_calls=2)

    def test_limit_holds_exactly_when_200_coroutines_race(self, ledger: Ledger) -> None:
        """The same with tasks that yield between reserving and settling."""
        account = Account("tasks", "tasks", Limits(cloud_calls=50))

        async def work(worker: int) -> bool:
            answer = await ledger.areserve(
                f"task-{worker}", Amounts(cloud_calls=1), accounts=[account], ttl_s=_TTL_S
            )
            await asyncio.sleep(0)
            assert_within_limits(await ledger.asnapshot([account]))
            if isinstance(answer, Denial):
                return False
            return await ledger.acommit(answer.id, Amounts(cloud_calls=1))

        async def race() -> list[bool]:
            return await asyncio.gather(*(work(worker) for worker in range(200)))

        assert asyncio.run(race()).count(True) == 50
        assert ledger.snapshot([account])[0] == AccountState(account, used=Amounts(cloud_calls=50))


def _reserve(ledger: Ledger, lease_id: str, amounts: Amounts, *accounts: Account) -> Lease | Denial:
    return ledger.reserve(lease_id, amounts, accounts=accounts, ttl_s=_TTL_S)


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


def _run_threads(count: int, work: Callable[[int], object]) -> None:
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
