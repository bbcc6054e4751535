"""The conformance suite of `RefillableLedger`: run it on your own store, beside that of ledgers.

```python
class TestMyLedgerShares(LedgerShareConformance):
    def make_ledger(self, clock):
        return MyLedger(a_fresh_store(), clock=clock)
```

It needs pytest. The hooks are those of `LedgerConformance`.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from langchain_hybridflow.budget import (
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    LedgerAdmin,
    Limits,
    Note,
    Refill,
    RefillableLedger,
)
from langchain_hybridflow.budget.share import MICRO_CALLS, Stash
from langchain_hybridflow.errors import LedgerError
from langchain_hybridflow.testing._ledger_kit import LedgerCase, reserve, run_threads
from langchain_hybridflow.testing.clock import ManualClock

__all__ = ["LedgerShareConformance"]

_ONE = Amounts(cloud_calls=1)
_BUCKET = Account("share", "cloud-share", Limits(cloud_calls=2))
_OTHER = Account("other-share", "cloud-share", Limits(cloud_calls=9))
_THIRD = Refill("share", 333_333)


class LedgerShareConformance(LedgerCase):
    """What every ledger must do whose accounts can be refilled.

    Example:
        >>> from langchain_hybridflow.budget import MemoryLedger
        >>> class TestMemoryShares(LedgerShareConformance):
        ...     def make_ledger(self, clock):
        ...         return MemoryLedger(clock=clock)
        >>> TestMemoryShares().test_ledger_can_be_refilled(MemoryLedger())
    """

    def test_ledger_can_be_refilled(self, ledger: Any) -> None:
        """It has both methods."""
        assert isinstance(ledger, RefillableLedger)

    def test_refill_gives_a_call_back_when_one_has_come_together(self, ledger: Any) -> None:
        """Three thirds, less a millionth, are none; with the fourth there is one."""
        self._spend(ledger, 2)
        for number in range(3):
            assert ledger.refill(f"p{number}", [_THIRD]) is True
        assert isinstance(reserve(ledger, "early", _ONE, _BUCKET), Denial)
        assert ledger.refill("p3", [_THIRD]) is True
        state = ledger.snapshot([_BUCKET])[0]
        assert state.used == _ONE
        assert Stash.of(state.note) == Stash(333_332, 1, 4)
        assert isinstance(reserve(ledger, "then", _ONE, _BUCKET), Lease)

    def test_refill_changes_nothing_when_it_is_sent_again(self, ledger: Any) -> None:
        """A prompt counts once, whoever counts it, also if the first reply was lost."""
        self._spend(ledger, 2)
        whole = Refill("share", MICRO_CALLS)
        assert ledger.refill("p", [whole]) is True
        before = ledger.snapshot([_BUCKET])
        assert ledger.refill("p", [whole]) is False
        assert ledger.refill("p", [_THIRD, Refill("other-share", 1)]) is False
        assert ledger.snapshot([_BUCKET]) == before
        assert ledger.snapshot([_OTHER]) == (AccountState(_OTHER),)

    def test_refill_puts_nothing_aside_when_nothing_is_used(self, ledger: Any) -> None:
        """However many prompts come first, the bucket is full and no more than that."""
        for number in range(20):
            ledger.refill(f"p{number}", [_THIRD])
        state = ledger.snapshot([_BUCKET])[0]
        assert state == AccountState(_BUCKET, note=Note(20, "0 0"))
        granted = [reserve(ledger, f"c{number}", _ONE, _BUCKET) for number in range(3)]
        assert [isinstance(one, Lease) for one in granted] == [True, True, False]

    def test_refill_changes_no_account_when_it_names_none(self, ledger: Any) -> None:
        """A budget tries that out before it buys anything."""
        self._spend(ledger, 1)
        before = ledger.snapshot([_BUCKET])
        assert ledger.refill("trial", []) is True
        assert ledger.refill("trial", []) is False
        assert ledger.snapshot([_BUCKET]) == before

    def test_refill_does_not_count_what_is_held(self, ledger: Any) -> None:
        """It may be given back, and the bucket would be more than full."""
        reserve(ledger, "held", _ONE, _BUCKET)
        for number in range(6):
            ledger.refill(f"p{number}", [_THIRD])
        assert ledger.snapshot([_BUCKET])[0].held == _ONE
        ledger.release("held")
        granted = [reserve(ledger, f"c{number}", _ONE, _BUCKET) for number in range(3)]
        assert [isinstance(one, Lease) for one in granted] == [True, True, False]

    def test_refill_leaves_what_else_was_booked(self, ledger: Any) -> None:
        """Money and tokens of the account, and all other accounts, are as they were."""
        cost = Amounts(usd_micros=7, cloud_tokens=20, cloud_calls=1)
        reserve(ledger, "a", cost, _BUCKET, _OTHER)
        ledger.commit("a", cost)
        ledger.refill("p", [Refill("share", MICRO_CALLS)])
        mine, other = ledger.snapshot([_BUCKET, _OTHER])
        assert mine.used == Amounts(usd_micros=7, cloud_tokens=20)
        assert other == AccountState(_OTHER, used=cost)

    def test_refill_fills_several_accounts_in_one_step(self, ledger: Any) -> None:
        """Each with its own part."""
        reserve(ledger, "a", _ONE, _BUCKET, _OTHER)
        ledger.commit("a", _ONE)
        ledger.refill("p", [Refill("share", MICRO_CALLS), Refill("other-share", 250_000)])
        mine, other = ledger.snapshot([_BUCKET, _OTHER])
        assert (mine.used, other.used) == (NOTHING, _ONE)
        assert (Stash.of(mine.note), Stash.of(other.note)) == (
            Stash(0, 1, 1),
            Stash(250_000, 0, 1),
        )

    def test_refill_takes_calls_off_the_overdraft_when_less_is_used(self, ledger: Any) -> None:
        """What no reservation covered is never more than what is used."""
        reserve(ledger, "a", _ONE, _BUCKET)
        ledger.commit("a", Amounts(cloud_calls=3))
        ledger.refill("p", [Refill("share", MICRO_CALLS)])
        state = ledger.snapshot([_BUCKET])[0]
        assert (state.used.cloud_calls, state.overdraft.cloud_calls) == (2, 2)
        ledger.refill("q", [Refill("share", MICRO_CALLS)])
        state = ledger.snapshot([_BUCKET])[0]
        assert (state.used.cloud_calls, state.overdraft.cloud_calls) == (1, 1)
        assert ledger.reconcile().differences == ()

    def test_journal_explains_the_counters_when_calls_were_given_back(
        self, ledger: Any, clock: ManualClock
    ) -> None:
        """And a repair finds nothing to do, however many lines were written since."""
        for number in range(300):
            reserve(ledger, f"c{number}", Amounts(usd_micros=3, cloud_calls=1), _BUCKET)
            ledger.commit(f"c{number}", Amounts(usd_micros=2, cloud_calls=1))
            ledger.refill(f"p{number}", [Refill("share", 999_999)])
        self.pass_time(clock, self.ttl_s)
        state = ledger.snapshot([_BUCKET])[0]
        assert state.used == Amounts(usd_micros=600, cloud_calls=1)
        assert Stash.of(state.note).given_back == 299
        found = ledger.reconcile(repair=True)
        assert (found.differences, found.repaired) == ((), False)

    def test_bucket_is_full_when_the_account_was_reset(self, ledger: Any) -> None:
        """A reset account begins anew; the calls that were given back are not moved."""
        admin: object = ledger
        if not isinstance(admin, LedgerAdmin):
            return
        self._spend(ledger, 2)
        ledger.refill("p", [Refill("share", MICRO_CALLS)])
        assert admin.reset("share").used == _ONE
        granted = [reserve(ledger, f"n{number}", _ONE, _BUCKET) for number in range(3)]
        assert [isinstance(one, Lease) for one in granted] == [True, True, False]
        assert ledger.reconcile().differences == ()

    def test_prompt_pays_for_a_call_that_nobody_settled(
        self, ledger: Any, clock: ManualClock
    ) -> None:
        """It was made, as far as anybody knows."""
        reserve(ledger, "lost", _ONE, _BUCKET, ttl_s=self.ttl_s)
        self.pass_time(clock, self.ttl_s)
        ledger.refill("p", [Refill("share", MICRO_CALLS)])
        state = ledger.snapshot([_BUCKET])[0]
        assert (state.used, Stash.of(state.note).given_back) == (NOTHING, 1)

    def test_counters_that_were_given_back_are_forgotten_in_time(
        self, ledger: Any, clock: ManualClock
    ) -> None:
        """Like any other; the journal knows."""
        account = replace(_BUCKET, keep_s=self.ttl_s)
        reserve(ledger, "a", _ONE, account)
        ledger.commit("a", _ONE)
        ledger.refill("p", [Refill("share", 400_000, keep_s=self.ttl_s)])
        before = ledger.snapshot([account])[0]
        self.pass_time(clock, 2 * self.ttl_s)
        state = ledger.snapshot([account])[0]
        assert state.used in {before.used, NOTHING}
        assert ledger.reconcile().differences == ()

    def test_stash_begins_anew_when_the_note_is_none(self, ledger: Any) -> None:
        """Somebody has written there by hand: nothing is put aside that nobody knows of."""
        ledger.swap_note("share", expected_version=0, text="not a stash")
        self._spend(ledger, 1)
        ledger.refill("p", [_THIRD])
        assert ledger.snapshot([_BUCKET])[0].note == Note(2, "333333 0")

    @pytest.mark.parametrize(
        ("refill_id", "refills"),
        [
            ("", [_THIRD]),
            ("p", [_THIRD, _THIRD]),
            ("p", [Refill("share", MICRO_CALLS + 1)]),
            ("p", [Refill("share", -1)]),
            ("open", [_THIRD]),
        ],
    )
    def test_refill_is_refused_and_changes_nothing_when_it_cannot_be(
        self, ledger: Any, refill_id: str, refills: list[Refill]
    ) -> None:
        """An account twice, a part that is none, an id that is taken, no id."""
        reserve(ledger, "open", _ONE, _BUCKET)
        before = ledger.snapshot([_BUCKET])
        with pytest.raises(LedgerError):
            ledger.refill(refill_id, refills)
        assert ledger.snapshot([_BUCKET]) == before

    def test_async_twin_refills_the_same_account(self, ledger: Any) -> None:
        """Same store, same rules, no matter which face is used."""

        async def use() -> list[bool]:
            counted = [await ledger.arefill("p", [_THIRD]) for _ in range(2)]
            await ledger.aclose()
            return counted

        assert asyncio.run(use()) == [True, False]
        assert ledger.refill("p", [_THIRD]) is False

    def test_handles_to_one_store_fill_one_bucket(self, ledger: Any, other: Any) -> None:
        """It is the store that counts."""
        self._spend(ledger, 2)
        assert other.refill("p", [Refill("share", MICRO_CALLS)]) is True
        assert ledger.refill("p", [Refill("share", MICRO_CALLS)]) is False
        assert isinstance(reserve(ledger, "a", _ONE, _BUCKET), Lease)
        assert isinstance(reserve(other, "b", _ONE, _BUCKET), Denial)

    def test_one_of_many_counts_a_prompt(self, ledger: Any, other: Any) -> None:
        """Of all that count the same one at once."""
        self._spend(ledger, 2)
        counted: list[bool] = []

        def count(worker: int) -> None:
            handle = (ledger, other)[worker % 2]
            counted.append(handle.refill("p", [Refill("share", 600_000)]))

        run_threads(min(self.threads, 16), count)
        assert counted.count(True) == 1
        assert Stash.of(ledger.snapshot([_BUCKET])[0].note) == Stash(600_000, 0, 1)

    def test_share_is_never_passed_when_many_answer_at_once(self, ledger: Any, other: Any) -> None:
        """However calls and prompts meet; a call that was not made goes back."""
        part, threads = 300_000, min(self.threads, 8)
        turns = max(5, min(self.turns, 20))
        happened: list[str] = []

        def answer(worker: int) -> None:
            handle, luck = (ledger, other)[worker % 2], random.Random(worker)
            for turn in range(turns):
                name = f"{worker}/{turn}"
                granted = isinstance(reserve(handle, name, _ONE, _BUCKET), Lease)
                if granted and luck.random() < 0.2:
                    handle.release(name)
                    granted = False
                elif granted:
                    handle.commit(name, _ONE)
                happened.append("cloud" if granted else "edge")
                handle.refill(f"prompt/{name}", [Refill("share", part)])

        run_threads(threads, answer)
        made, prompts = happened.count("cloud"), threads * turns
        state = ledger.snapshot([_BUCKET])[0]
        stash = Stash.of(state.note)
        assert stash.prompts == prompts
        assert stash.given_back + state.used.cloud_calls == made
        assert made * MICRO_CALLS <= part * prompts + 2 * MICRO_CALLS
        assert state.used.cloud_calls * MICRO_CALLS >= stash.micro_calls
        assert ledger.reconcile().differences == ()

    def _spend(self, ledger: Any, calls: int) -> None:
        for number in range(calls):
            reserve(ledger, f"spent-{number}", _ONE, _BUCKET)
            ledger.commit(f"spent-{number}", _ONE)
