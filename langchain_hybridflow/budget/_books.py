"""The counters, the journal and the notes of `MemoryLedger`; nothing here locks or tells time.

The garbage collector may run a settlement in the middle of any function here (see `MemoryLedger`),
wherever something is allocated. So everything that is written is an addition, which another one may
overtake, and whatever reads more than one thing looks whether something was written meanwhile.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from itertools import starmap
from typing import NamedTuple, TypeAlias

from langchain_hybridflow.budget.rules import differences_of
from langchain_hybridflow.budget.share import Refill, Stash
from langchain_hybridflow.budget.types import (
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Column,
    Difference,
    Lease,
    Note,
    Reconciliation,
)

__all__ = ["Books"]

_Line: TypeAlias = tuple[tuple[Account, ...], Amounts, Amounts]

_ZEROS = (0, 0, 0)
_LINES_KEPT = 256  # what one settlement in so many has to sum up: some tenths of a millisecond
_FORGOTTEN_AT_ONCE = 8  # more than one call brings, so that all go; few enough not to be felt


class _Counters:
    """What is counted under one key, three integers each, in the order of `DIMENSIONS`."""

    __slots__ = ("held", "leases", "overdraft", "used")

    def __init__(self) -> None:
        self.used = [0, 0, 0]
        self.held = [0, 0, 0]
        self.overdraft = [0, 0, 0]
        self.leases = 0  # how many are open in it; a lease may hold nothing

    def columns(self) -> dict[Column, tuple[int, ...]]:
        return {
            "used": tuple(self.used),
            "held": tuple(self.held),
            "overdraft": tuple(self.overdraft),
        }


_NOTHING_COUNTED = _Counters()


class _Age:
    """When something was last written to, and how long it is kept from then on."""

    __slots__ = ("due_at", "keep_s", "touched_at")

    def __init__(self) -> None:
        self.touched_at = 0.0
        self.keep_s: float | None = None
        self.due_at: float | None = None  # of its one entry in the heap


class _Ages:
    """Which keys are over their time; what it costs does not depend on how many there are."""

    def __init__(self) -> None:
        self._ages: dict[str, _Age] = {}
        self._heap: list[tuple[float, str]] = []

    def touch(self, key: str, keep_s: float | None, now: float) -> None:
        age = self._ages.get(key)
        if age is None:
            if keep_s is None:
                return
            age = self._ages.setdefault(key, _Age())
        age.touched_at = now
        age.keep_s = keep_s
        if keep_s is not None and (age.due_at is None or now + keep_s < age.due_at):
            self._push(key, age)

    def _push(self, key: str, age: _Age) -> None:
        if age.keep_s is not None:
            age.due_at = age.touched_at + age.keep_s
            heapq.heappush(self._heap, (age.due_at, key))

    def over(self, now: float, in_use: Mapping[str, _Counters]) -> Sequence[str]:
        """Keys that may be forgotten now, a few at a time; they are no longer watched."""
        if not self._heap or self._heap[0][0] > now:
            return ()
        forgotten: list[str] = []
        for _ in range(_FORGOTTEN_AT_ONCE):
            if not self._heap or self._heap[0][0] > now:
                break
            due_at, key = heapq.heappop(self._heap)
            age = self._ages.get(key)
            if age is None or age.due_at != due_at:
                continue  # a later entry is in its place
            age.due_at = None
            counters = in_use.get(key)
            if counters is not None and counters.leases:
                # Nothing to do before the lease ends, which touches the key and brings it back.
                continue
            if age.keep_s is None or age.touched_at + age.keep_s > now:
                self._push(key, age)
                continue
            del self._ages[key]
            forgotten.append(key)
        return forgotten


class _Move(NamedTuple):
    """A line of the journal: what was booked under one key is booked under another, or nowhere."""

    source: str
    target: str | None
    used: Amounts
    overdraft: Amounts


class _Journal:
    """What was booked, line by line; old lines are summed up, so that it stays small."""

    def __init__(self) -> None:
        self._lines: list[_Line | _Move | str] = []
        self._opening: dict[str, tuple[list[int], list[int]]] = {}
        self._is_summing = False

    def book(self, accounts: tuple[Account, ...], used: Amounts, overdraft: Amounts) -> None:
        self._write((accounts, used, overdraft))

    def forget(self, key: str) -> None:
        self._write(key)

    def move(self, move: _Move) -> None:
        self._write(move)

    def _write(self, line: _Line | _Move | str) -> None:
        self._lines.append(line)
        if len(self._lines) > _LINES_KEPT:
            self._sum_up()

    def _sum_up(self) -> None:
        if self._is_summing:
            return  # lines must be summed up in their order
        self._is_summing = True
        lines, self._lines = self._lines, []
        for line in lines:
            if isinstance(line, str):
                self._opening.pop(line, None)
                continue
            if isinstance(line, _Move):
                source = self._balance(line.source)
                target = None if line.target is None else self._balance(line.target)
                for place, amounts in enumerate((line.used, line.overdraft)):
                    _subtract(source[place], amounts)
                    if target is not None:
                        _add(target[place], amounts)
                continue
            accounts, used, overdraft = line
            for account in accounts:
                balance = self._balance(account.key)
                _add(balance[0], used)
                if overdraft:
                    _add(balance[1], overdraft)
        self._is_summing = False

    def _balance(self, key: str) -> tuple[list[int], list[int]]:
        balance = self._opening.get(key)
        if balance is None:
            balance = self._opening[key] = ([0, 0, 0], [0, 0, 0])
        return balance

    def balances(self, leases: Iterable[Lease]) -> dict[str, _Counters]:
        """What the counters must be when these leases are open."""
        self._sum_up()
        balances: dict[str, _Counters] = {}
        for key in list(self._opening):
            balances[key] = balance = _Counters()
            used, overdraft = self._opening[key]
            balance.used, balance.overdraft = used[:], overdraft[:]
        for lease in leases:
            for account in lease.accounts:
                balance = balances.setdefault(account.key, _Counters())
                balance.leases += 1
                _add(balance.held, lease.amounts)
        return balances


class Books:
    """What a ledger writes down: counters, and apart from them the journal that explains them."""

    def __init__(self) -> None:
        self._counters: dict[str, _Counters] = {}
        self._notes: dict[str, Note] = {}
        self._journal = _Journal()
        self._version = 0  # grows with everything that is written to counters or journal
        self._counter_ages = _Ages()
        self._note_ages = _Ages()

    def hold(self, accounts: Iterable[Account], amounts: Amounts, now: float) -> None:
        """A lease was opened."""
        for account in accounts:
            counters = self._touched(account, now)
            counters.leases += 1
            _add(counters.held, amounts)

    def settle(
        self,
        accounts: tuple[Account, ...],
        now: float,
        *,
        held: Amounts,
        used: Amounts,
        overdraft: Amounts,
    ) -> None:
        """A lease was settled: it no longer holds anything, and this was booked."""
        if used:
            self._journal.book(accounts, used, overdraft)
        for account in accounts:
            counters = self._touched(account, now)
            counters.leases -= 1
            _subtract(counters.held, held)
            if used:
                _add(counters.used, used)
            if overdraft:
                _add(counters.overdraft, overdraft)

    def book_late(self, accounts: tuple[Account, ...], now: float, uncovered: Amounts) -> None:
        """Something was spent under a lease that had been settled."""
        if uncovered:
            self._journal.book(accounts, uncovered, uncovered)
        for account in accounts:
            counters = self._touched(account, now)
            _add(counters.used, uncovered)
            _add(counters.overdraft, uncovered)

    def move(self, key: str, target: str) -> tuple[Amounts, Amounts]:
        """Take all that was booked under a key to another one; returns used and overdraft."""
        source = self._counters.get(key)
        if source is None:
            return NOTHING, NOTHING
        used, overdraft = Amounts(*source.used), Amounts(*source.overdraft)
        if used:
            self._version += 1
            self._journal.move(_Move(key, target, used, overdraft))
            archive = self._counters.setdefault(target, _Counters())
            for column, amounts in (("used", used), ("overdraft", overdraft)):
                _subtract(getattr(source, column), amounts)
                _add(getattr(archive, column), amounts)
        return used, overdraft

    def refill(self, refill: Refill, now: float) -> None:
        """A prompt was answered: count it, and take calls off that have come together."""
        while True:
            version = self._version
            counters = self._counters.get(refill.key, _NOTHING_COUNTED)
            used, overdraft = counters.used[_CALLS], counters.overdraft[_CALLS]
            stash = Stash.of(self._notes.get(refill.key))
            back, stash = stash.refill(used=used, micro_calls=refill.micro_calls)
            uncovered = max(0, overdraft - (used - back))
            move = _Move(
                refill.key, None, Amounts(cloud_calls=back), Amounts(cloud_calls=uncovered)
            )
            note = stash.note
            if version == self._version:
                break
        self._version += 1
        self._notes[refill.key] = note
        if back:
            counters.used[_CALLS] -= back
            counters.overdraft[_CALLS] -= uncovered
            self._journal.move(move)
            self._counter_ages.touch(refill.key, refill.keep_s, now)
        self._note_ages.touch(refill.key, refill.keep_s, now)

    def open_in(self, key: str) -> int:
        """How many leases are open in an account."""
        return self._counters.get(key, _NOTHING_COUNTED).leases

    def all_keys(self) -> set[str]:
        """All keys that have counters or a note."""
        return {*list(self._counters), *list(self._notes)}

    def used_and_held(self, account: Account) -> tuple[Sequence[int], Sequence[int]]:
        """The sums over all keys of an account that its limits are checked against."""
        if account.earlier:
            # Held first: what is settled in between is then counted twice, and not at all else.
            held = self._sum(account, "held")
            return self._sum(account, "used"), held
        counters = self._counters.get(account.key)
        return (_ZEROS, _ZEROS) if counters is None else (counters.used, counters.held)

    def states(self, accounts: Iterable[Account], at: float) -> tuple[AccountState, ...]:
        """The counters of all these accounts at one instant."""
        while True:
            version = self._version
            states = tuple([self._state(account, at) for account in accounts])
            if version == self._version:
                return states

    def swap_note(
        self, key: str, now: float, *, expected_version: int, text: str, keep_s: float | None
    ) -> Note:
        """Write a note if nobody else has; returns the one that stands."""
        note = self._notes.get(key) or Note()
        if note.version == expected_version:
            note = Note(expected_version + 1, text)
            self._notes[key] = note
            self._note_ages.touch(key, keep_s, now)
        # Also when nothing was written: version 0 says that there is no note.
        return note

    def forget(self, now: float) -> None:
        """Drop some of what is over its time; called often, so that nothing piles up."""
        for key in self._counter_ages.over(now, self._counters):
            self._version += 1
            self._counters.pop(key, None)
            self._journal.forget(key)
        for key in self._note_ages.over(now, {}):
            self._notes.pop(key, None)

    def reconcile(self, open_leases: Mapping[str, Lease], *, repair: bool) -> Reconciliation:
        """Compare the counters with the journal and the open leases."""
        while True:
            version = self._version
            balances = self._journal.balances(list(open_leases.values()))
            keys = {*list(self._counters), *balances}
            counted = {key: self._counters.get(key, _NOTHING_COUNTED).columns() for key in keys}
            differences = differences_of(
                counted, {key: balance.columns() for key, balance in balances.items()}
            )
            leases = {
                key: balances.get(key, _NOTHING_COUNTED).leases
                - self._counters.get(key, _NOTHING_COUNTED).leases
                for key in keys
            }
            if version == self._version:
                break
        if repair:
            self._repair(differences, leases)
        return Reconciliation(len(keys), differences, repaired=repair and bool(differences))

    def _repair(self, differences: Iterable[Difference], leases: Mapping[str, int]) -> None:
        for difference in differences:
            counters = self._counters.setdefault(difference.key, _Counters())
            column: list[int] = getattr(counters, difference.column)
            column[_INDEX[difference.dimension]] += difference.journal - difference.counted
        for key, missing in leases.items():
            if missing:
                self._counters.setdefault(key, _Counters()).leases += missing

    def _touched(self, account: Account, now: float) -> _Counters:
        self._version += 1
        counters = self._counters.get(account.key)
        if counters is None:
            # Not an assignment: the collector may have run a settlement since the line above.
            counters = self._counters.setdefault(account.key, _Counters())
        self._counter_ages.touch(account.key, account.keep_s, now)
        return counters

    def _state(self, account: Account, at: float) -> AccountState:
        note = self._notes.get(account.key)
        if account.earlier:
            columns = [self._sum(account, column) for column in ("used", "held", "overdraft")]
        else:
            counters = self._counters.get(account.key, _NOTHING_COUNTED)
            columns = [counters.used, counters.held, counters.overdraft]
        used, held, overdraft = starmap(Amounts, columns)
        return AccountState(account, used, held, overdraft, at=at, note=note)

    def _sum(self, account: Account, column: Column) -> list[int]:
        total = [0, 0, 0]
        for key in account.keys:
            counters = self._counters.get(key)
            if counters is not None:
                values: list[int] = getattr(counters, column)
                total = [mine + theirs for mine, theirs in zip(total, values, strict=True)]
        return total


_INDEX = {"usd_micros": 0, "cloud_tokens": 1, "cloud_calls": 2}
_CALLS = 2


def _add(values: list[int], amounts: Amounts) -> None:
    values[0] += amounts.usd_micros
    values[1] += amounts.cloud_tokens
    values[2] += amounts.cloud_calls


def _subtract(values: list[int], amounts: Amounts) -> None:
    values[0] -= amounts.usd_micros
    values[1] -= amounts.cloud_tokens
    values[2] -= amounts.cloud_calls
