"""The suite of ledgers' administration catches the mistakes that can be made in one."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from langchain_hybridflow.budget import Account, Amounts, Lease, MemoryLedger, Reset
from langchain_hybridflow.budget.admin import archive_of
from langchain_hybridflow.errors import LedgerError
from langchain_hybridflow.testing import LedgerAdminConformance, ManualClock


class DropsWhatWasUsed(MemoryLedger):
    """Begins anew by forgetting."""

    def reset(self, key: str, *, force: bool = False) -> Reset:
        done = super().reset(key, force=force)
        self._books._counters.pop(done.moved_to, None)
        return done


class WritesNoJournal(MemoryLedger):
    """Changes the counters only."""

    def reset(self, key: str, *, force: bool = False) -> Reset:
        archive_of(key)
        counters = self._books._counters.get(key)
        used = Amounts() if counters is None else Amounts(*counters.used)
        if counters is not None:
            counters.used, counters.overdraft = [0, 0, 0], [0, 0, 0]
        return Reset(key, archive_of(key), used, Amounts(), 0)


class IsAlwaysForced(MemoryLedger):
    """Does not look whether leases are open."""

    def reset(self, key: str, *, force: bool = False) -> Reset:
        return super().reset(key, force=True)


class FreesWhatIsHeld(MemoryLedger):
    """Takes the leases away, too."""

    def reset(self, key: str, *, force: bool = False) -> Reset:
        for lease in self.open_leases(key) if force else ():
            self.release(lease.id)
        return super().reset(key, force=force)


class TakesPatterns(MemoryLedger):
    """Reads a prefix as a pattern."""

    def list_keys(self, prefix: str = "") -> tuple[str, ...]:
        return tuple(key for key in super().list_keys() if fnmatch.fnmatchcase(key, f"{prefix}*"))


class ForgetsNotes(MemoryLedger):
    """Lists what has counters only."""

    def list_keys(self, prefix: str = "") -> tuple[str, ...]:
        with self._lock:
            return tuple(key for key in sorted(self._books._counters) if key.startswith(prefix))


class KeepsItForEver(MemoryLedger):
    """Changes for how long the counters are kept."""

    def reset(self, key: str, *, force: bool = False) -> Reset:
        done = super().reset(key, force=force)
        self._books._counter_ages.touch(key, None, self.now())
        return done


class ShowsSettledLeases(MemoryLedger):
    """Shows each lease that it was asked for."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self._all: dict[str, Lease] = {}

    def reserve(self, *args: Any, **kwargs: Any) -> Any:
        lease = super().reserve(*args, **kwargs)
        if isinstance(lease, Lease):
            self._all[lease.id] = lease
        return lease

    def open_leases(self, key: str | None = None) -> tuple[Lease, ...]:
        return tuple(self._all.values())


class _Suite(LedgerAdminConformance):
    """The suite on any ledger, called test by test; pytest does not collect it."""

    def run(self, test: str, ledger: Any, clock: ManualClock) -> None:
        given = {"clock": clock, "ledger": ledger}
        method = getattr(self, test)
        method(**{name: given[name] for name in inspect.signature(method).parameters})


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (DropsWhatWasUsed, "test_reset_moves_what_was_used"),
        (WritesNoJournal, "test_reset_moves_what_was_used"),
        (IsAlwaysForced, "test_reset_is_refused_when_leases_are_open"),
        (FreesWhatIsHeld, "test_reset_keeps_what_is_held_when_it_is_forced"),
        (ForgetsNotes, "test_keys_are_all_that_have_counters_or_notes"),
        (ShowsSettledLeases, "test_open_leases_are_those_that_nobody_settled"),
        (ShowsSettledLeases, "test_open_leases_of_an_account_are_those_held_in_it"),
    ],
)
def test_suite_catches_an_administration_that_breaks_the_contract(
    broken: Callable[..., MemoryLedger], test: str
) -> None:
    sound, clock = ManualClock(start_s=1_000.0), ManualClock(start_s=1_000.0)
    _Suite().run(test, MemoryLedger(sound), sound)
    with pytest.raises((AssertionError, LedgerError, pytest.fail.Exception)):
        _Suite().run(test, broken(clock), clock)


def test_suite_catches_a_prefix_that_is_a_pattern() -> None:
    with pytest.raises(AssertionError):
        _Suite().test_keys_begin_with_the_prefix(TakesPatterns(), "a*", 0)


def test_reset_leaves_the_time_to_keep_alone() -> None:
    """The suite cannot tell: a store may keep longer than it must. The memory ledger does not."""
    for kind, kept in ((MemoryLedger, False), (KeepsItForEver, True)):
        clock = ManualClock(start_s=1_000.0)
        ledger = kind(clock)
        account = replace(Account("team", "team"), keep_s=60.0)
        ledger.reserve("a", Amounts(cloud_calls=1), accounts=[account], ttl_s=600)
        ledger.commit("a", Amounts(cloud_calls=1))
        ledger.reset("team")
        clock.advance(120)
        ledger.expire()
        ledger.snapshot([account])
        assert ("team" in ledger.list_keys()) is kept
