"""The rules of a single lease; a part of `LedgerConformance`."""

from __future__ import annotations

import asyncio

import pytest

from langchain_hybridflow.budget import (
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
from langchain_hybridflow.testing._ledger_kit import (
    LIMITED,
    SMALLER,
    UNLIMITED,
    LedgerCase,
    reserve,
)
from langchain_hybridflow.testing.clock import ManualClock

__all__ = ["LeaseRules"]


class LeaseRules(LedgerCase):
    """Reserve, extend, commit, release and expire, one behaviour a test."""

    def test_reserve_holds_in_every_account_when_granted(self, ledger: Ledger) -> None:
        """A grant is held in all accounts at once."""
        amounts = Amounts(usd_micros=10, cloud_tokens=20, cloud_calls=1)
        lease = reserve(ledger, "a", amounts, LIMITED, SMALLER)
        assert isinstance(lease, Lease)
        assert (lease.id, lease.amounts) == ("a", amounts)
        assert [s.held for s in ledger.snapshot([LIMITED, SMALLER])] == [amounts, amounts]

    def test_reserve_holds_nothing_anywhere_when_one_account_denies(self, ledger: Ledger) -> None:
        """All or none."""
        denial = reserve(ledger, "a", Amounts(cloud_calls=5), LIMITED, SMALLER)
        assert denial == Denial(
            "cloud_calls", requested=5, remaining=4, limit=4, scope="run", held=0
        )
        assert [s.held for s in ledger.snapshot([LIMITED, SMALLER])] == [NOTHING, NOTHING]

    def test_reserve_names_the_dimension_when_denied(self, ledger: Ledger) -> None:
        """A denial says which dimension had too little, how much is left and how much is held."""
        reserve(ledger, "a", Amounts(cloud_tokens=900), LIMITED)
        denial = reserve(ledger, "b", Amounts(usd_micros=1, cloud_tokens=101), LIMITED)
        assert denial == Denial(
            "cloud_tokens", requested=101, remaining=100, limit=1_000, scope="team", held=900
        )

    def test_reserve_grants_to_the_last_unit_and_not_beyond(self, ledger: Ledger) -> None:
        """The limit itself can be spent."""
        assert isinstance(reserve(ledger, "a", Amounts(cloud_tokens=1_000), LIMITED), Lease)
        assert isinstance(reserve(ledger, "b", Amounts(cloud_tokens=1), LIMITED), Denial)

    def test_reserve_grants_the_free_when_the_limit_is_used_up(self, ledger: Ledger) -> None:
        """A dimension of which nothing is asked cannot deny."""
        reserve(ledger, "a", Amounts(cloud_calls=10), LIMITED)
        assert isinstance(reserve(ledger, "b", Amounts(cloud_tokens=5), LIMITED), Lease)

    def test_reserve_replays_the_grant_when_the_id_is_open(self, ledger: Ledger) -> None:
        """A request that is sent twice counts once."""
        first = reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED)
        assert reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED) == first
        assert ledger.snapshot([LIMITED])[0].held == Amounts(cloud_calls=3)

    def test_reserve_raises_when_the_id_is_open_with_other_amounts(self, ledger: Ledger) -> None:
        """One id, one purchase."""
        reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED)
        with pytest.raises(LedgerError):
            reserve(ledger, "a", Amounts(cloud_calls=2), LIMITED)
        assert ledger.snapshot([LIMITED])[0].held == Amounts(cloud_calls=3)

    def test_reserve_raises_when_the_id_is_open_in_other_accounts(self, ledger: Ledger) -> None:
        """One id, one purchase, in the same accounts."""
        reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED)
        with pytest.raises(LedgerError):
            reserve(ledger, "a", Amounts(cloud_calls=3), SMALLER)

    @pytest.mark.parametrize("end", ["commit", "release", "expire"])
    def test_reserve_raises_when_the_id_was_settled(
        self, ledger: Ledger, clock: ManualClock, end: str
    ) -> None:
        """An id is never used again, however its lease ended."""
        reserve(ledger, "a", Amounts(cloud_calls=1), LIMITED, ttl_s=self.ttl_s)
        if end == "commit":
            ledger.commit("a", Amounts(cloud_calls=1))
        elif end == "release":
            ledger.release("a")
        else:
            self.pass_time(clock, self.ttl_s)
        with pytest.raises(LedgerError):
            reserve(ledger, "a", Amounts(cloud_calls=1), LIMITED, ttl_s=self.ttl_s)

    def test_reserve_checks_the_limits_of_the_call_when_they_changed(self, ledger: Ledger) -> None:
        """Limits travel with the call: a raised one holds from the next call on."""
        reserve(ledger, "a", Amounts(cloud_calls=4), SMALLER)
        raised = Account(SMALLER.key, "run", Limits(cloud_calls=6))
        assert isinstance(reserve(ledger, "b", Amounts(cloud_calls=1), SMALLER), Denial)
        assert isinstance(reserve(ledger, "c", Amounts(cloud_calls=2), raised), Lease)

    def test_commit_books_the_cost_and_frees_the_rest(self, ledger: Ledger) -> None:
        """The difference between worst case and cost can be reserved again."""
        reserve(ledger, "a", Amounts(cloud_tokens=800), LIMITED)
        assert ledger.commit("a", Amounts(cloud_tokens=300)) is True
        expected = AccountState(LIMITED, used=Amounts(cloud_tokens=300))
        assert ledger.snapshot([LIMITED]) == (expected,)
        assert isinstance(reserve(ledger, "b", Amounts(cloud_tokens=700), LIMITED), Lease)

    def test_commit_counts_overdraft_when_it_cost_more_than_reserved(self, ledger: Ledger) -> None:
        """What was spent is booked, also beyond the reservation and the limit."""
        reserve(ledger, "a", Amounts(cloud_tokens=900, cloud_calls=1), LIMITED)
        ledger.commit("a", Amounts(cloud_tokens=1_200, cloud_calls=1))
        state = ledger.snapshot([LIMITED])[0]
        assert state.used == Amounts(cloud_tokens=1_200, cloud_calls=1)
        assert state.overdraft == Amounts(cloud_tokens=300)
        assert state.remaining("cloud_tokens") == 0

    def test_commit_changes_nothing_when_it_comes_twice(self, ledger: Ledger) -> None:
        """A lease is settled once."""
        reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED)
        assert ledger.commit("a", Amounts(cloud_calls=2)) is True
        before = ledger.snapshot([LIMITED])
        assert ledger.commit("a", Amounts(cloud_calls=2)) is False
        assert ledger.snapshot([LIMITED]) == before

    def test_commit_raises_when_it_contradicts_the_first(self, ledger: Ledger) -> None:
        """The first commit stands, and the second is not lost in silence."""
        reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED)
        ledger.commit("a", Amounts(cloud_calls=2))
        with pytest.raises(LedgerError):
            ledger.commit("a", Amounts(cloud_calls=3))
        assert ledger.snapshot([LIMITED])[0].used == Amounts(cloud_calls=2)

    def test_commit_raises_when_the_id_is_unknown(self, ledger: Ledger) -> None:
        """A cost that belongs to no account is not dropped in silence."""
        with pytest.raises(LedgerError):
            ledger.commit("never-reserved", Amounts(cloud_calls=1))

    def test_commit_is_overdraft_when_the_lease_was_released(self, ledger: Ledger) -> None:
        """The call was made after all: its cost is booked, and nothing covered it."""
        reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED)
        ledger.release("a")
        assert ledger.commit("a", Amounts(cloud_calls=2)) is False
        state = ledger.snapshot([LIMITED])[0]
        assert (state.used, state.overdraft) == (Amounts(cloud_calls=2), Amounts(cloud_calls=2))

    def test_release_frees_everything(self, ledger: Ledger) -> None:
        """A call that was not made costs nothing."""
        reserve(ledger, "a", Amounts(usd_micros=5, cloud_calls=3), LIMITED, SMALLER)
        assert ledger.release("a") is True
        fresh = (AccountState(LIMITED), AccountState(SMALLER))
        assert ledger.snapshot([LIMITED, SMALLER]) == fresh

    def test_release_changes_nothing_when_the_lease_was_committed(self, ledger: Ledger) -> None:
        """So it is safe in a `finally`."""
        reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED)
        ledger.commit("a", Amounts(cloud_calls=2))
        assert ledger.release("a") is False
        assert ledger.snapshot([LIMITED])[0].used == Amounts(cloud_calls=2)

    def test_release_changes_nothing_when_the_id_is_unknown(self, ledger: Ledger) -> None:
        """A reservation whose answer was lost can be released without knowing it."""
        assert ledger.release("never-reserved") is False

    def test_expire_charges_the_reservation_when_nobody_settled_it(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        """Nobody knows that the call was not made."""
        lease = reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED, ttl_s=self.ttl_s)
        self.pass_time(clock, self.ttl_s)
        assert [expired.id for expired in ledger.expire()] == ["a"]
        assert isinstance(lease, Lease)
        assert ledger.snapshot([LIMITED])[0] == AccountState(LIMITED, used=lease.amounts)

    def test_expire_leaves_leases_alone_when_their_time_is_not_over(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        """A lease lives for all of its time."""
        reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED, ttl_s=self.ttl_s)
        self.pass_time(clock, 0.6 * self.ttl_s)
        assert ledger.expire() == ()
        assert ledger.snapshot([LIMITED])[0].held == Amounts(cloud_calls=3)

    def test_expired_lease_is_charged_once_when_it_is_released_late(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        """The charge stands."""
        reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED, ttl_s=self.ttl_s)
        self.pass_time(clock, self.ttl_s)
        assert ledger.release("a") is False
        assert ledger.expire() == ()
        assert ledger.snapshot([LIMITED])[0].used == Amounts(cloud_calls=3)

    def test_commit_adds_only_what_the_charge_left_open_when_it_is_late(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        """A late commit is recorded as overdraft, never dropped and never counted twice."""
        reserve(ledger, "a", Amounts(cloud_tokens=100, cloud_calls=1), LIMITED, ttl_s=self.ttl_s)
        self.pass_time(clock, self.ttl_s)
        assert ledger.commit("a", Amounts(cloud_tokens=130, cloud_calls=1)) is False
        assert ledger.commit("a", Amounts(cloud_tokens=130, cloud_calls=1)) is False
        state = ledger.snapshot([LIMITED])[0]
        assert state.used == Amounts(cloud_tokens=130, cloud_calls=1)
        assert state.overdraft == Amounts(cloud_tokens=30)

    def test_extend_keeps_the_lease_open(self, ledger: Ledger, clock: ManualClock) -> None:
        """A long call can have more time."""
        reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED, ttl_s=self.ttl_s)
        self.pass_time(clock, 0.6 * self.ttl_s)
        ledger.extend("a", self.ttl_s)
        self.pass_time(clock, 0.6 * self.ttl_s)
        assert ledger.commit("a", Amounts(cloud_calls=1)) is True

    def test_extend_never_shortens_a_lease(self, ledger: Ledger, clock: ManualClock) -> None:
        """A smaller time leaves the lease as it was."""
        reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED, ttl_s=self.ttl_s)
        ledger.extend("a", 0.1 * self.ttl_s)
        self.pass_time(clock, 0.6 * self.ttl_s)
        assert ledger.expire() == ()

    def test_extend_raises_when_the_lease_is_over(self, ledger: Ledger, clock: ManualClock) -> None:
        """What was charged cannot be opened again."""
        reserve(ledger, "a", Amounts(cloud_calls=3), LIMITED, ttl_s=self.ttl_s)
        self.pass_time(clock, self.ttl_s)
        with pytest.raises(LedgerError):
            ledger.extend("a", self.ttl_s)

    def test_snapshot_is_zero_when_the_account_is_new(self, ledger: Ledger) -> None:
        """Nobody opens accounts by hand."""
        assert ledger.snapshot([UNLIMITED]) == (AccountState(UNLIMITED),)

    def test_async_twins_do_what_the_sync_methods_do(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        """Same store, same rules, no matter which face is used."""

        async def use() -> tuple[AccountState, ...]:
            amounts = Amounts(cloud_calls=2)
            for lease_id in "abc":
                await ledger.areserve(lease_id, amounts, accounts=[LIMITED], ttl_s=self.ttl_s)
            await ledger.acommit("a", Amounts(cloud_calls=1))
            await ledger.arelease("b")
            await ledger.aextend("c", 2 * self.ttl_s)
            self.pass_time(clock, 3 * self.ttl_s)
            assert [lease.id for lease in await ledger.aexpire()] == ["c"]
            states = await ledger.asnapshot([LIMITED])
            await ledger.aclose()
            return states

        assert asyncio.run(use()) == (AccountState(LIMITED, used=Amounts(cloud_calls=3)),)
        assert ledger.snapshot([LIMITED])[0].used == Amounts(cloud_calls=3)
