"""The conformance suite of `LedgerAdmin`: run it on your own store, beside that of ledgers.

```python
class TestMyLedgerAdmin(LedgerAdminConformance):
    def make_ledger(self, clock):
        return MyLedger(a_fresh_store(), clock=clock)
```

It needs pytest. The hooks are those of `LedgerConformance`.
"""

from __future__ import annotations

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
    Note,
)
from langchain_hybridflow.errors import LedgerError
from langchain_hybridflow.testing._ledger_kit import (
    LIMITED,
    SMALLER,
    UNLIMITED,
    LedgerCase,
    reserve,
    run_threads,
)
from langchain_hybridflow.testing.clock import ManualClock

__all__ = ["LedgerAdminConformance"]

_ONE = Amounts(usd_micros=7, cloud_tokens=20, cloud_calls=1)
_ARCHIVE = Account("reset/team", "reset")


class LedgerAdminConformance(LedgerCase):
    """What the administration of every ledger must do; the hooks are `LedgerConformance`'s.

    Example:
        >>> from langchain_hybridflow.budget import MemoryLedger
        >>> class TestMemoryAdmin(LedgerAdminConformance):
        ...     def make_ledger(self, clock):
        ...         return MemoryLedger(clock=clock)
        >>> TestMemoryAdmin().test_admin_satisfies_the_protocol(MemoryLedger())
    """

    def test_admin_satisfies_the_protocol(self, ledger: Any) -> None:
        """It has all methods."""
        assert isinstance(ledger, LedgerAdmin)

    def test_keys_are_none_when_nobody_has_used_the_store(self, ledger: Any) -> None:
        """And to look for them makes none."""
        assert ledger.list_keys() == ()
        assert ledger.list_keys() == ()

    def test_keys_are_all_that_have_counters_or_notes(self, ledger: Any) -> None:
        """Sorted, each once, in every script that people write in."""
        greek = Account("team/\N{GREEK SMALL LETTER LAMDA} %_\\*[a]?", "team")
        reserve(ledger, "a", _ONE, LIMITED, greek)
        ledger.release("a")
        ledger.swap_note("team", expected_version=0, text="x")
        ledger.swap_note("about/team", expected_version=0, text="x")
        ledger.snapshot([SMALLER])
        assert ledger.list_keys() == tuple(sorted(("about/team", "team", greek.key)))

    @pytest.mark.parametrize(
        ("prefix", "found"),
        [("", 4), ("a", 3), ("a/", 2), ("a%", 0), ("a*", 0), ("A", 0), ("a/b", 1), ("z", 0)],
    )
    def test_keys_begin_with_the_prefix(self, ledger: Any, prefix: str, found: int) -> None:
        """Letter by letter: it is no pattern."""
        for key in ("a", "a/b", "a/c", "b"):
            ledger.swap_note(key, expected_version=0, text="x")
        keys = ledger.list_keys(prefix)
        assert len(keys) == found
        assert all(key.startswith(prefix) for key in keys)

    def test_open_leases_are_those_that_nobody_settled(
        self, ledger: Any, clock: ManualClock
    ) -> None:
        """The next to expire comes first."""
        for lease_id, ttl_s in (("late", 300.0), ("soon", 100.0), ("over", self.ttl_s / 2)):
            reserve(ledger, lease_id, _ONE, LIMITED, ttl_s=ttl_s)
        reserve(ledger, "settled", _ONE, LIMITED)
        ledger.commit("settled", _ONE)
        self.pass_time(clock, self.ttl_s / 2)
        leases = ledger.open_leases()
        assert [lease.id for lease in leases] == ["soon", "late"]
        assert {lease.amounts for lease in leases} == {_ONE}

    def test_open_leases_of_an_account_are_those_held_in_it(self, ledger: Any) -> None:
        """Whatever place it has in the reservation."""
        reserve(ledger, "a", _ONE, LIMITED, UNLIMITED)
        reserve(ledger, "b", _ONE, UNLIMITED)
        assert [lease.id for lease in ledger.open_leases(LIMITED.key)] == ["a"]
        assert len(ledger.open_leases(UNLIMITED.key)) == 2
        assert ledger.open_leases("nobody's") == ()

    def test_reset_moves_what_was_used(self, ledger: Any) -> None:
        """The account begins anew, and the journal knows where it went."""
        reserve(ledger, "a", _ONE, LIMITED, UNLIMITED)
        ledger.commit("a", _ONE + _ONE)
        reset = ledger.reset(LIMITED.key)
        assert (reset.key, reset.moved_to, reset.open_leases) == ("team", "reset/team", 0)
        assert (reset.used, reset.overdraft) == (_ONE + _ONE, _ONE)
        assert ledger.snapshot([LIMITED, _ARCHIVE, UNLIMITED]) == (
            AccountState(LIMITED),
            AccountState(_ARCHIVE, used=_ONE + _ONE, overdraft=_ONE),
            AccountState(UNLIMITED, used=_ONE + _ONE, overdraft=_ONE),
        )
        assert ledger.reconcile().differences == ()

    def test_reset_frees_the_limit(self, ledger: Any) -> None:
        """That is what it is for."""
        reserve(ledger, "a", Amounts(cloud_calls=4), SMALLER)
        ledger.commit("a", Amounts(cloud_calls=4))
        assert isinstance(reserve(ledger, "b", _ONE, SMALLER), Denial)
        ledger.reset(SMALLER.key)
        assert isinstance(reserve(ledger, "c", Amounts(cloud_calls=4), SMALLER), Lease)

    def test_reset_adds_up_when_it_is_done_again(self, ledger: Any) -> None:
        """Sent twice, it moves nothing twice."""
        for lease_id in ("a", "b"):
            reserve(ledger, lease_id, _ONE, LIMITED)
            ledger.commit(lease_id, _ONE)
            assert ledger.reset(LIMITED.key).used == _ONE
            assert ledger.reset(LIMITED.key).used == NOTHING
        assert ledger.snapshot([_ARCHIVE])[0].used == _ONE + _ONE

    def test_reset_is_refused_when_leases_are_open(self, ledger: Any) -> None:
        """Nothing has changed then."""
        reserve(ledger, "a", _ONE, LIMITED)
        ledger.commit("a", _ONE)
        reserve(ledger, "b", _ONE, LIMITED)
        with pytest.raises(LedgerError, match="1 lease is open"):
            ledger.reset(LIMITED.key)
        assert ledger.snapshot([LIMITED, _ARCHIVE]) == (
            AccountState(LIMITED, used=_ONE, held=_ONE),
            AccountState(_ARCHIVE),
        )

    def test_reset_keeps_what_is_held_when_it_is_forced(self, ledger: Any) -> None:
        """The lease ends as if nothing had been."""
        reserve(ledger, "a", _ONE, LIMITED)
        ledger.commit("a", _ONE)
        reserve(ledger, "b", _ONE, LIMITED)
        assert ledger.reset(LIMITED.key, force=True).open_leases == 1
        assert ledger.snapshot([LIMITED]) == (AccountState(LIMITED, held=_ONE),)
        assert ledger.commit("b", _ONE) is True
        assert ledger.snapshot([LIMITED]) == (AccountState(LIMITED, used=_ONE),)
        assert ledger.reconcile().differences == ()

    def test_reset_charges_what_has_expired_before(self, ledger: Any, clock: ManualClock) -> None:
        """So a lease that nobody will settle is not in its way."""
        reserve(ledger, "a", _ONE, LIMITED, ttl_s=self.ttl_s)
        self.pass_time(clock, self.ttl_s)
        reset = ledger.reset(LIMITED.key)
        assert (reset.used, reset.open_leases) == (_ONE, 0)

    def test_late_cost_is_booked_after_the_reset(self, ledger: Any) -> None:
        """What was spent is never dropped."""
        reserve(ledger, "a", _ONE, LIMITED)
        ledger.release("a")
        ledger.reset(LIMITED.key)
        ledger.commit("a", _ONE)
        assert ledger.snapshot([LIMITED])[0] == AccountState(LIMITED, used=_ONE, overdraft=_ONE)
        assert ledger.reconcile().differences == ()

    def test_reset_leaves_the_note(self, ledger: Any) -> None:
        """It is no part of what is counted."""
        reserve(ledger, "a", _ONE, LIMITED)
        ledger.commit("a", _ONE)
        ledger.swap_note(LIMITED.key, expected_version=0, text="x")
        ledger.reset(LIMITED.key)
        assert ledger.snapshot([LIMITED])[0].note == Note(1, "x")

    def test_reset_of_an_unused_account_does_nothing(self, ledger: Any) -> None:
        """It is as new as can be."""
        assert ledger.reset("nobody's").used == NOTHING
        assert ledger.list_keys() == ()

    def test_reset_is_refused_when_the_account_keeps_what_was_reset(self, ledger: Any) -> None:
        """There, everything stays."""
        with pytest.raises(LedgerError, match="reset"):
            ledger.reset(_ARCHIVE.key)

    def test_reset_knows_the_longest_key(self, ledger: Any) -> None:
        """Its amounts go to an account with a digest for a name."""
        longest = Account("x" * 1_000, "team")
        reserve(ledger, "a", _ONE, longest)
        ledger.commit("a", _ONE)
        moved_to = ledger.reset(longest.key).moved_to
        assert ledger.snapshot([Account(moved_to, "reset")])[0].used == _ONE

    def test_counters_are_forgotten_in_time_after_a_reset(
        self, ledger: Any, clock: ManualClock
    ) -> None:
        """A reset changes nothing about how long they are kept; and the archive stays."""
        account = replace(LIMITED, keep_s=self.ttl_s)
        reserve(ledger, "a", _ONE, account)
        ledger.commit("a", _ONE)
        ledger.reset(account.key)
        self.pass_time(clock, 2 * self.ttl_s)
        ledger.expire()
        assert ledger.snapshot([account, _ARCHIVE]) == (
            AccountState(account),
            AccountState(_ARCHIVE, used=_ONE),
        )
        assert ledger.reconcile().differences == ()

    def test_nothing_is_lost_when_resets_race_with_calls(self, ledger: Any) -> None:
        """What was committed is in the account or in its archive, and nowhere twice."""

        def work(worker: int) -> None:
            for turn in range(self.turns):
                if worker == 0:
                    ledger.reset(UNLIMITED.key, force=True)
                    continue
                lease_id = f"{worker}-{turn}"
                reserve(ledger, lease_id, _ONE, UNLIMITED)
                ledger.commit(lease_id, _ONE)

        workers = min(self.threads, 8)
        run_threads(workers, work)
        archive = Account(f"reset/{UNLIMITED.key}", "reset")
        states = ledger.snapshot([UNLIMITED, archive])
        total = sum((state.used for state in states), start=NOTHING)
        assert total.cloud_calls == (workers - 1) * self.turns
        assert {state.held for state in states} == {NOTHING}
        assert ledger.reconcile().differences == ()
