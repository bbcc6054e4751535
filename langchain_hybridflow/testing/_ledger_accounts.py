"""The rules of accounts, windows, notes and time; a part of `LedgerConformance`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from langchain_hybridflow.budget import (
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    Ledger,
    Note,
)
from langchain_hybridflow.errors import LedgerError
from langchain_hybridflow.testing._ledger_kit import (
    LIMITED,
    SMALLER,
    UNLIMITED,
    LedgerCase,
    reserve,
    window,
)
from langchain_hybridflow.testing.clock import ManualClock

__all__ = ["AccountRules"]


class AccountRules(LedgerCase):
    """Windows, forgetting, notes, the journal, the clock and second handles."""

    def test_limit_counts_the_earlier_buckets_of_a_window(self, ledger: Ledger) -> None:
        """What was spent and what is held in any bucket is not there any more."""
        reserve(ledger, "a", Amounts(cloud_calls=6), window(1))
        ledger.commit("a", Amounts(cloud_calls=4))
        reserve(ledger, "b", Amounts(cloud_calls=5), window(2))
        denial = reserve(ledger, "c", Amounts(cloud_calls=2), window(3))
        assert denial == Denial(
            "cloud_calls", requested=2, remaining=1, limit=10, scope="window", held=5
        )
        assert isinstance(reserve(ledger, "d", Amounts(cloud_calls=1), window(3)), Lease)

    def test_bucket_counts_no_more_when_it_left_the_window(self, ledger: Ledger) -> None:
        """The window rolls on."""
        reserve(ledger, "a", Amounts(cloud_calls=10), window(1))
        ledger.commit("a", Amounts(cloud_calls=10))
        assert isinstance(reserve(ledger, "b", Amounts(cloud_calls=1), window(4)), Denial)
        assert isinstance(reserve(ledger, "c", Amounts(cloud_calls=10), window(5)), Lease)

    def test_cost_is_booked_in_the_bucket_of_the_reservation(self, ledger: Ledger) -> None:
        """Whatever bucket it is when the call ends."""
        reserve(ledger, "a", Amounts(cloud_calls=3), window(1))
        ledger.commit("a", Amounts(cloud_calls=2))
        first, second = Account("window/1", "bucket"), Account("window/2", "bucket")
        expected = (AccountState(first, used=Amounts(cloud_calls=2)), AccountState(second))
        assert ledger.snapshot([first, second]) == expected

    def test_snapshot_sums_over_the_window(self, ledger: Ledger) -> None:
        """Used, held and overdraft, over the current bucket and the earlier ones."""
        reserve(ledger, "a", Amounts(cloud_calls=2), window(1))
        ledger.commit("a", Amounts(cloud_calls=3))
        reserve(ledger, "b", Amounts(cloud_calls=4), window(2))
        three, four, one = (Amounts(cloud_calls=count) for count in (3, 4, 1))
        assert ledger.snapshot([window(2), window(4), window(5)]) == (
            AccountState(window(2), used=three, held=four, overdraft=one),
            AccountState(window(4), used=three, held=four, overdraft=one),
            AccountState(window(5), held=four),
        )

    def test_reserve_holds_nothing_anywhere_when_a_window_denies(self, ledger: Ledger) -> None:
        """All or none, over windows and scopes."""
        reserve(ledger, "a", Amounts(cloud_calls=9), window(1))
        assert isinstance(
            reserve(ledger, "b", Amounts(cloud_calls=2), LIMITED, SMALLER, window(2)), Denial
        )
        assert [state.held for state in ledger.snapshot([LIMITED, SMALLER])] == [NOTHING] * 2

    def test_counters_are_kept_when_their_time_is_not_over(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        """The time counts from the last time that something was written."""
        account = replace(LIMITED, keep_s=2 * self.ttl_s)
        for lease_id in "abc":
            reserve(ledger, lease_id, Amounts(cloud_calls=1), account)
            ledger.commit(lease_id, Amounts(cloud_calls=1))
            self.pass_time(clock, self.ttl_s)
        assert ledger.snapshot([account])[0].used == Amounts(cloud_calls=3)

    def test_counters_are_kept_when_a_lease_is_open(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        """What is held is never forgotten, and neither is what was spent beside it."""
        account = replace(LIMITED, keep_s=self.ttl_s)
        reserve(ledger, "a", Amounts(cloud_calls=1), account)
        ledger.commit("a", Amounts(cloud_calls=1))
        reserve(ledger, "b", Amounts(cloud_calls=2), account, ttl_s=100 * self.ttl_s)
        self.pass_time(clock, 3 * self.ttl_s)
        one, two = Amounts(cloud_calls=1), Amounts(cloud_calls=2)
        assert ledger.snapshot([account]) == (AccountState(account, used=one, held=two),)
        assert ledger.commit("b", two) is True
        assert ledger.snapshot([account])[0].used == one + two

    def test_counters_are_forgotten_all_at_once(self, ledger: Ledger, clock: ManualClock) -> None:
        """An old account is as it was, or as new; and the journal knows."""
        account = replace(LIMITED, keep_s=self.ttl_s)
        reserve(ledger, "a", Amounts(cloud_calls=1), account)
        ledger.commit("a", Amounts(cloud_calls=3))
        before = ledger.snapshot([account])[0]
        self.pass_time(clock, 2 * self.ttl_s)
        assert ledger.snapshot([account])[0] in {before, AccountState(account)}
        assert ledger.reconcile().differences == ()

    def test_note_is_written_when_nobody_was_faster(self, ledger: Ledger) -> None:
        """Versions count from 1, and the text comes back as it was."""
        text = 'lambda = 0.5 \N{GREEK SMALL LETTER LAMDA}\n{"a": "\\" \'"}'
        assert ledger.swap_note("team", expected_version=0, text="first") == Note(1, "first")
        assert ledger.swap_note("team", expected_version=1, text=text) == Note(2, text)
        assert ledger.snapshot([LIMITED]) == (AccountState(LIMITED, note=Note(2, text)),)

    def test_note_stands_when_somebody_was_faster(self, ledger: Ledger) -> None:
        """The loser learns what stands."""
        ledger.swap_note("team", expected_version=0, text="winner")
        for version in (0, 2):
            assert ledger.swap_note("team", expected_version=version, text="x") == Note(1, "winner")
        assert ledger.snapshot([LIMITED])[0].note == Note(1, "winner")

    def test_note_is_written_once_when_the_swap_is_sent_again(self, ledger: Ledger) -> None:
        """A reply that was lost can be asked for again."""
        first = ledger.swap_note("team", expected_version=0, text="x")
        assert ledger.swap_note("team", expected_version=0, text="x") == first

    def test_note_is_none_when_a_swap_expected_one(self, ledger: Ledger) -> None:
        """Nothing is made up."""
        assert ledger.swap_note("team", expected_version=3, text="x") == Note(0, "")
        assert ledger.snapshot([LIMITED])[0].note is None

    def test_note_belongs_to_one_key(self, ledger: Ledger) -> None:
        """Not to the window that the key is an earlier bucket of."""
        ledger.swap_note("window/1", expected_version=0, text="x")
        notes = [state.note for state in ledger.snapshot([window(1), window(2), LIMITED])]
        assert notes == [Note(1, "x"), None, None]

    def test_note_is_kept_when_its_time_is_not_over(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        """The time counts from the last time that it was written."""
        for version in range(3):
            text = str(version)
            ledger.swap_note("team", expected_version=version, text=text, keep_s=2 * self.ttl_s)
            self.pass_time(clock, self.ttl_s)
        assert ledger.snapshot([LIMITED])[0].note == Note(3, "2")

    def test_note_is_refused_when_it_is_too_long(self, ledger: Ledger) -> None:
        """It is a note, not a document; what counts are its bytes."""
        longest = "\N{GREEK SMALL LETTER LAMDA}" * 2_048
        assert ledger.swap_note("team", expected_version=0, text=longest).text == longest
        with pytest.raises(LedgerError):
            ledger.swap_note("team", expected_version=1, text=longest + "x")

    def test_journal_explains_the_counters(self, ledger: Ledger, clock: ManualClock) -> None:
        """After every way in which a lease can end, and while some are open."""
        cost = Amounts(usd_micros=7, cloud_tokens=20, cloud_calls=1)
        for lease_id in ("committed", "overdrawn", "released", "expired"):
            reserve(ledger, lease_id, cost, LIMITED, UNLIMITED, window(1), ttl_s=self.ttl_s)
        ledger.commit("committed", Amounts(cloud_tokens=5))
        ledger.commit("overdrawn", cost + cost)
        ledger.release("released")
        self.pass_time(clock, self.ttl_s)
        ledger.commit("expired", cost + cost)
        ledger.commit("released", cost)
        reserve(ledger, "open", cost, LIMITED, window(2))
        result = ledger.reconcile()
        assert (result.differences, result.repaired) == ((), False)
        assert result.accounts_checked >= 4
        assert ledger.reconcile(repair=True).repaired is False

    def test_clock_moves_with_time(self, ledger: Ledger, clock: ManualClock) -> None:
        """`now`, `at` and `expires_at` are of one clock."""
        before = ledger.now()
        lease = reserve(ledger, "a", Amounts(cloud_calls=1), LIMITED, ttl_s=self.ttl_s)
        assert isinstance(lease, Lease)
        self.pass_time(clock, self.ttl_s / 2)
        state = ledger.snapshot([LIMITED])[0]
        after = asyncio.run(ledger.anow())
        # A clock over a network is known to some milliseconds.
        assert before + self.ttl_s / 2 - 0.1 <= state.at <= after + 0.1
        assert before - 0.1 <= lease.expires_at - self.ttl_s <= state.at + 0.1

    def test_handles_to_one_store_see_the_same(self, ledger: Ledger, other: Ledger) -> None:
        """It is the store that counts."""
        cost = Amounts(cloud_calls=1)
        reserve(ledger, "a", Amounts(cloud_calls=3), SMALLER)
        assert isinstance(reserve(other, "b", Amounts(cloud_calls=2), SMALLER), Denial)
        assert other.commit("a", cost) is True
        assert ledger.commit("a", cost) is False
        assert other.swap_note("run", expected_version=0, text="x") == Note(1, "x")
        assert ledger.swap_note("run", expected_version=0, text="y") == Note(1, "x")
        assert ledger.snapshot([SMALLER]) == other.snapshot([SMALLER])
        assert ledger.reconcile() == other.reconcile()

    def test_async_twins_write_notes_and_reconcile(self, ledger: Ledger) -> None:
        """Same store, same rules, no matter which face is used."""

        async def use() -> Note:
            note = await ledger.aswap_note("team", expected_version=0, text="x")
            assert (await ledger.areconcile()).differences == ()
            await ledger.aclose()
            return note

        assert asyncio.run(use()) == Note(1, "x")

    def test_close_is_harmless_when_it_comes_twice(self, clock: ManualClock) -> None:
        """So it can stand in every `finally`, and the sync one after the async one."""
        ledger = self.make_ledger(clock)
        reserve(ledger, "a", Amounts(cloud_calls=1), LIMITED)
        asyncio.run(ledger.aclose())
        ledger.close()
        ledger.close()
